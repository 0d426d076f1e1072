fn main() {
    fades_build::image();
}
