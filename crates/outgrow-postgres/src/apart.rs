//! Futures with a frame of their own.
//!
//! The compiler puts what is awaited in one place into the function that awaits it, whatever it is and
//! however rarely it comes to that: of a client's whole life it makes one function, with the variables of
//! its login and of its departure on the stack of each poll, page after page. What a query does not need is
//! kept out of that by [`apart!`].

use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls a future in a function of its own.
#[inline(never)]
pub(crate) fn poll_apart<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

/// Awaits a future that most polls have nothing to do with, with a frame of its own.
macro_rules! apart {
    ($future:expr) => {{
        let mut future = std::pin::pin!($future);
        std::future::poll_fn(|cx| $crate::apart::poll_apart(future.as_mut(), cx)).await
    }};
}

pub(crate) use apart;
