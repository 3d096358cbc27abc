//! Secret types, the derivation table, the KEK and store traits
