//! Prints the policy of the test image: the seed of the fuzz target `attest_policy`.

fn main() {
    println!("{}", testkit::boot::Image::default().policy().to_json());
}
