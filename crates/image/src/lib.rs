//! The OS image: mkosi inputs, UKI parsing and PCR prediction, image info
