//! A wire between client and server that can be cut.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Closes what comes in.
    Refuse,
    /// Accepts and says nothing.
    Freeze,
}

/// The mode, and a number that changes when what is connected is to be cut.
type Order = (Mode, u64);

pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Order>,
}

impl Proxy {
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (orders, watch) = watch::channel((Mode::Pass, 0));
        tokio::spawn(serve(listener, server, watch));
        Self { address, orders }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn drop_connections(&self) {
        self.orders.send_modify(|(_, cut)| *cut += 1);
    }

    pub fn refuse(&self) {
        self.set(Mode::Refuse);
    }

    pub fn freeze(&self) {
        self.set(Mode::Freeze);
    }

    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    fn set(&self, mode: Mode) {
        self.orders.send_modify(|order| *order = (mode, order.1 + 1));
    }
}

async fn serve(listener: TcpListener, server: String, mut orders: watch::Receiver<Order>) {
    let mut wires = JoinSet::new();
    loop {
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
                wires.abort_all();
                while wires.join_next().await.is_some() {}
            }
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let mode = orders.borrow().0;
                match mode {
                    Mode::Pass => { wires.spawn(pass(client, server.clone())); }
                    Mode::Refuse => drop(client),
                    Mode::Freeze => {
                        wires.spawn(async move {
                            std::future::pending::<()>().await;
                            drop(client);
                        });
                    }
                }
            }
        }
    }
}

async fn pass(mut client: TcpStream, server: String) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        let _ = server.shutdown().await;
    }
}
