//! Datagrams. One that cannot be answered soon is answered by a task of its own, so that the next does not wait for it.

use super::{STOPPING, Service, at_once};
use crate::wire::redirect::{Over, Reply};
use crate::wire::sip::MESSAGE_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Lookups that may wait for the store at once; of more, the client's retransmission is answered.
const UNDER_WAY_MAX: usize = 4096;

/// How long nothing is read after the system could not give a datagram.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn serve(socket: UdpSocket, service: Arc<Service>, stop: CancellationToken) {
    let ipv6 = socket.local_addr().is_ok_and(|own| own.is_ipv6());
    let (socket, tasks) = (Arc::new(socket), TaskTracker::new());
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut buffer = vec![0; MESSAGE_MAX];
    let mut stopped = std::pin::pin!(stop.cancelled());
    loop {
        let (length, source) = tokio::select! {
            biased;
            () = &mut stopped => break,
            got = socket.recv_from(&mut buffer) => match got {
                Ok(got) => got,
                Err(error) => {
                    warn!(%error, "cannot read a datagram");
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        if !service.admits(source.ip()) {
            continue;
        }
        let step = service.read(buffer.get(..length).unwrap_or_default(), source, Over::Udp);
        let asked = service.clone();
        let mut work = Box::pin(async move { asked.answer(step, source).await });
        if let Some(reply) = at_once(&mut work).await {
            send(&socket, ipv6, reply).await;
            continue;
        }
        let Ok(permit) = under_way.clone().try_acquire_owned() else {
            service.unanswered("overload");
            continue;
        };
        let socket = socket.clone();
        tasks.spawn(async move {
            send(&socket, ipv6, work.await).await;
            drop(permit);
        });
    }
    tasks.close();
    if timeout(STOPPING, tasks.wait()).await.is_err() {
        warn!(requests = tasks.len(), "not all SIP requests were answered before the stop");
    }
}

async fn send(socket: &UdpSocket, ipv6: bool, reply: Option<Reply>) {
    let Some(Reply { bytes, to, call_id, .. }) = reply else { return };
    // A socket of the IPv6 family wants IPv4 addresses in IPv6 dress.
    let to = match (ipv6, to.ip()) {
        (true, std::net::IpAddr::V4(v4)) => (v4.to_ipv6_mapped(), to.port()).into(),
        (true | false, _) => to,
    };
    if let Err(error) = socket.send_to(&bytes, to).await {
        debug!(%call_id, %to, %error, "answer not sent");
    }
}
