//! A real DNS authority (hickory-server) on 127.0.0.1, UDP and TCP, in a thread of its own. Its zone `example.` can be replaced
//! while it is asked; and it can be told to fail, to be silent, to be slow, or to answer with records that are not in the zone.

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::op::{Metadata, ResponseCode};
use hickory_server::proto::rr::{Name, Record};
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::RwLock;

/// How it behaves.
#[derive(Clone, Default)]
pub enum Mood {
    /// As its zone says.
    #[default]
    Good,
    /// With this code and nothing else.
    Code(ResponseCode),
    /// Not at all.
    Silent,
    /// As its zone says, after a while.
    Slow(Duration),
    /// To everything with these records.
    Odd(Vec<Record>),
}

#[derive(Default)]
struct Shared {
    catalog: RwLock<Arc<Catalog>>,
    mood: Mutex<Mood>,
    asked: Mutex<BTreeMap<String, u32>>,
}

pub struct Authority {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Authority {
    /// With this zone; see [`Authority::zone`].
    pub fn start(zone: &str) -> Authority {
        let shared = Arc::new(Shared::default());
        let (tell, told) = std::sync::mpsc::channel();
        let its = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                // One port for both: TCP chooses, and UDP has it too nearly always.
                let (tcp, udp) = loop {
                    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                    if let Ok(udp) = tokio::net::UdpSocket::bind(tcp.local_addr().unwrap()).await {
                        break (tcp, udp);
                    }
                };
                tell.send(tcp.local_addr().unwrap()).unwrap();
                let mut server = Server::new(Handler(its));
                server.register_socket(udp);
                server.register_listener(tcp, Duration::from_secs(5), 1 << 16);
                server.block_until_done().await.unwrap();
            });
        });
        let authority = Authority { address: told.recv().unwrap(), shared };
        authority.zone(zone);
        authority
    }

    /// Replaces the zone: lines of a master file, relative to `example.`; the SOA is added.
    pub fn zone(&self, lines: &str) {
        let text = format!("@ 60 IN SOA ns admin 1 60 60 60 1\n{lines}\n");
        let origin = Name::from_ascii("example.").unwrap();
        let (origin, records) = Parser::new(text, None, Some(origin)).parse().unwrap();
        let zone: InMemoryZoneHandler<TokioRuntimeProvider> =
            InMemoryZoneHandler::new(origin.clone(), records, ZoneType::Primary, AxfrPolicy::Deny).unwrap();
        let mut catalog = Catalog::new();
        catalog.upsert(origin.into(), vec![Arc::new(zone)]);
        let catalog = Arc::new(catalog);
        // From a test with or without a runtime.
        loop {
            if let Ok(mut current) = self.shared.catalog.try_write() {
                *current = catalog;
                return;
            }
            std::thread::yield_now();
        }
    }

    pub fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// How often each question was asked since the last time: `SRV _sip._udp.pool.example`.
    pub fn asked(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap())
    }
}

struct Handler(Arc<Shared>);

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        if let Ok(info) = request.request_info() {
            let name = info.query.name().to_string();
            let question = format!("{} {}", info.query.query_type(), name.trim_end_matches('.'));
            *self.0.asked.lock().unwrap().entry(question).or_default() += 1;
        }
        let mood = self.0.mood.lock().unwrap().clone();
        let metadata = Metadata::response_from_request(&request.metadata);
        let builder = MessageResponseBuilder::from_message_request(request);
        match mood {
            Mood::Good => {}
            Mood::Slow(time) => tokio::time::sleep(time).await,
            Mood::Silent => {
                return ResponseInfo::from(hickory_server::proto::op::Header {
                    metadata,
                    counts: Default::default(),
                });
            }
            Mood::Code(code) => {
                let response = builder.error_msg(&request.metadata, code);
                return handle.send_response(response).await.unwrap();
            }
            Mood::Odd(records) => {
                let response = builder.build(metadata, &records, [], [], []);
                return handle.send_response(response).await.unwrap();
            }
        }
        let catalog = self.0.catalog.read().await.clone();
        catalog.handle_request::<R, T>(request, handle).await
    }
}
