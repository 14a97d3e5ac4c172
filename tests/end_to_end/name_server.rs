//! A DNS server of the tests on loopback, which says what it is told to.

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::op::OpCode;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::proto::rr::rdata::A;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::net::UdpSocket;

/// What is said of a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    /// It has this address, for a second.
    Address(Ipv4Addr),
    /// It has both of these, for a second.
    Addresses([Ipv4Addr; 2]),
    /// Nothing: the question is lost.
    Silence,
    /// That the server cannot tell.
    Failure,
}

/// A name of which nothing was told is none at all.
#[derive(Clone)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    names: HashMap<String, Says>,
    asked: HashMap<String, u32>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: socket.local_addr().unwrap(), told: Arc::default() };
        let told = Arc::clone(&server.told);
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let answer = reply(&query, &mut told.lock().unwrap());
                if let Some(answer) = answer {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        server
    }

    /// From now on `name` is this.
    pub(crate) fn says(&self, name: &str, says: Says) {
        self.told.lock().unwrap().names.insert(name.to_owned(), says);
    }

    /// How often it was asked for `name`.
    pub(crate) fn asked(&self, name: &str) -> u32 {
        self.told.lock().unwrap().asked.get(name).copied().unwrap_or(0)
    }

    /// The lines of a configuration by which a node asks here.
    pub(crate) fn line(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address)
    }
}

fn reply(query: &Message, told: &mut Told) -> Option<Vec<u8>> {
    let asked = query.queries[0].clone();
    let name = asked.name().to_ascii().trim_end_matches('.').to_lowercase();
    // Services of a name are the name's own.
    let host = name.trim_start_matches("_sip._udp.").trim_start_matches("_sip._tcp.").to_owned();
    *told.asked.entry(host.clone()).or_insert(0) += 1;
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.add_query(asked.clone());
    message.metadata.recursion_available = true;
    match (told.names.get(&host), asked.query_type()) {
        (Some(Says::Silence), _) => return None,
        (Some(Says::Failure), _) => message.metadata.response_code = ResponseCode::ServFail,
        (Some(Says::Address(address)), RecordType::A) if name == host => {
            let data = RData::A(A(*address));
            message.add_answer(Record::from_rdata(asked.name().clone(), 1, data));
        }
        (Some(Says::Addresses(addresses)), RecordType::A) if name == host => {
            for address in addresses {
                let data = RData::A(A(*address));
                message.add_answer(Record::from_rdata(asked.name().clone(), 1, data));
            }
        }
        (Some(Says::Address(_) | Says::Addresses(_)), _) => {}
        (None, _) => message.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(message.to_vec().unwrap())
}
