//! Free ports for programs that cannot be told to take port 0.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// So many different addresses of loopback on which nobody listens now. They
/// are held together while they are looked for, so they differ; another program
/// may take one before it is used, which is rare.
///
/// # Errors
/// When the system has no free port.
pub fn free(count: usize) -> io::Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}
