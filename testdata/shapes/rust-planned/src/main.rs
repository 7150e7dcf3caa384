//! Prints the numbers it is given in their order.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let words = std::env::args().skip(1);
    let mut numbers: Vec<u64> = words.map(|word| word.parse()).collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    print!("{}", greeting::before(numbers.len()));
    for number in numbers {
        print!(" {}", itoa::Buffer::new().format(number));
    }
    println!();
    Ok(())
}
