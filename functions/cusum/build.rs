//! Links the function as an image.
fn main() {
    fades_build::image();
}
