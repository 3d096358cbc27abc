//! The init server and those who ask join services against a real TPM (swtpm), over the attested channel. Needs the packages swtpm,
//! swtpm-tools, etcd-server and etcd-client, and Kubernetes for the records. What a node does to its host is replaced by steps that record; whether they may run at all is what is tested.

mod programs {
    mod api_proxy;
    mod backup;
    // tests begin in the order of their names: six minutes, most of them spent waiting, are best begun early
    mod certificates;
    mod control_planes;
    mod departed;
    mod init;
    mod join;
    mod machine;
    mod own_network;
    mod records;
    mod recover;
    mod rejoin;
    mod several;
    mod start_anew;
    mod two_clusters;
}
