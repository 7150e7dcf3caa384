//! Prints the newest of some versions.

mod order;

fn main() {
    match order::newest(std::env::args().skip(1)) {
        Ok(Some(version)) => println!("{version}"),
        Ok(None) => {}
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}
