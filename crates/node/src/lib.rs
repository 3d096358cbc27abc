//! The node program: disk-mapper in the initrd, bootstrapper in the root
