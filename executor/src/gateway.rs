//! Where a sandbox finds the host: what `host-gateway` stands for.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use crate::port::inside;

/// The address that `network`'s default route leads through. Helpers hand on what is sent there to
/// the host's loopback, where they are started so.
pub(crate) fn of_network(network: BorrowedFd<'_>) -> io::Result<Ipv4Addr> {
    let routes = inside(network, || std::fs::read_to_string("/proc/thread-self/net/route"))?;
    first_gateway(&routes)
        .ok_or_else(|| io::Error::other("the sandbox's network has no IPv4 default route"))
}

/// The gateway of the first default route in `/proc/net/route` (proc_net(5)): addresses are
/// hexadecimal, in the byte order of the machine.
fn first_gateway(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let is_default = destination == "00000000" && gateway != 0;
        is_default.then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_that_of_the_first_default_route() {
        let gateway = format!("{:08X}", u32::from_ne_bytes([192, 0, 2, 1]));
        let table = |lines: &[[&str; 2]]| {
            let line = |[to, by]: &[&str; 2]| format!("eth0\t{to}\t{by}\t0003\t0\t0\t0\n");
            "Iface\tDestination\tGateway\tFlags\n".to_owned()
                + &lines.iter().map(line).collect::<String>()
        };
        for (lines, wanted) in [
            (&[["00000000", &*gateway]][..], Some(Ipv4Addr::new(192, 0, 2, 1))),
            (&[["000200C0", "00000000"], ["00000000", &*gateway]], Some([192, 0, 2, 1].into())),
            // A route to everything that has no gateway, one of another network, none.
            (&[["00000000", "00000000"]], None),
            (&[["000200C0", &*gateway]], None),
            (&[], None),
        ] {
            assert_eq!(first_gateway(&table(lines)), wanted, "{lines:?}");
        }
    }
}
