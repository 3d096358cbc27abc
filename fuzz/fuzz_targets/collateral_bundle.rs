//! A bundle: the bytes as they are, and what is read of them written again. What evidence may say it needs.
#![cfg_attr(fuzzing, no_main)]

use collateral::needs::{Piece, needs};
use collateral::{Bundle, Product, Update};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::parse(bytes) {
        let written = bundle.to_bytes().expect("what was read is not too large");
        let again = Bundle::parse(&written).expect("what is written can be read");
        assert_eq!(again, bundle, "nothing is lost");
    }
    if let Ok(Some(piece)) = Piece::recognise(bytes) {
        for product in [None, Some(Product::Turin)] {
            // anything but a panic
            needs(std::slice::from_ref(&piece), product, Update::Early).ok();
        }
    }
});
