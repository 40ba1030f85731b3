//! Who may do what: bearer tokens with scopes, kept as hashes in the store.
//!
//! Without any token everything is allowed, and the service listens on loopback only.

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use springtide_store::Store;
use springtide_store::port::TokenRow;
use tokio::time::Instant;

use super::Shared;
use super::problem::{Kind, Refusal, Result};
use crate::app::App;

/// How long tokens are remembered: a revoked one works for so long.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The tokens, remembered briefly.
pub struct Auth {
    store: Arc<dyn Store>,
    /// Without any token only this machine's own users can come here.
    loopback: bool,
    kept: Mutex<(Instant, Arc<Vec<Token>>)>,
    refreshing: tokio::sync::Mutex<()>,
}

/// A token as it is compared.
struct Token {
    name: String,
    hash: [u8; 32],
    scopes: Vec<String>,
}

/// The service would be open to everyone who can reach it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} can be reached from other machines, and there is no token: whoever finds it could run jobs. \
     Make a token with `springtide tokens create NAME`, or listen on this machine only (`--listen 127.0.0.1:7860`)"
)]
pub struct Exposed(SocketAddr);

/// Whether the service may listen here. Without tokens it may on loopback only.
pub fn check_listen(listen: SocketAddr, tokens_exist: bool) -> Result<(), Exposed> {
    if tokens_exist || listen.ip().is_loopback() { Ok(()) } else { Err(Exposed(listen)) }
}

impl Auth {
    /// Reads the tokens.
    pub async fn open(app: &App) -> Result<Self, springtide_store::Error> {
        let tokens = app.store.tokens().await?;
        Ok(Self {
            store: Arc::clone(&app.store),
            loopback: app.config.listen.ip().is_loopback(),
            kept: Mutex::new((Instant::now(), Arc::new(read(tokens)))),
            refreshing: tokio::sync::Mutex::new(()),
        })
    }

    /// Whether requests need a token.
    pub fn is_required(&self) -> bool {
        !self.kept().1.is_empty()
    }

    fn kept(&self) -> (Instant, Arc<Vec<Token>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.0, Arc::clone(&kept.1))
    }

    /// The tokens as they were a moment ago. While the store can't be read, those known before go on being valid.
    async fn tokens(&self) -> Arc<Vec<Token>> {
        let (at, tokens) = self.kept();
        if at.elapsed() < REMEMBERED {
            return tokens;
        }
        // One request asks; the others go on with what they have.
        let Ok(_refreshing) = self.refreshing.try_lock() else { return tokens };
        let tokens = match self.store.tokens().await {
            Ok(rows) => Arc::new(read(rows)),
            Err(error) => {
                tracing::warn!(%error, "the tokens can't be read; those known before stay valid");
                tokens
            }
        };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), Arc::clone(&tokens));
        tokens
    }

    /// The owner of what this request does, if its token has the scope.
    async fn check(&self, headers: &HeaderMap, scope: &'static str) -> Result<String> {
        let tokens = self.tokens().await;
        if tokens.is_empty() && self.loopback {
            return check_host(headers).map(|()| String::new());
        }
        let Some(given) = bearer(headers) else {
            let detail = "send a token in the header `Authorization: Bearer …`";
            return Err(Refusal::new(Kind::Unauthenticated, detail));
        };
        let hash: [u8; 32] = Sha256::digest(given).into();
        // All are compared, each in full: the time taken tells nothing.
        let found = tokens.iter().fold(
            None,
            |found, token| {
                if is_same(&token.hash, &hash) { Some(token) } else { found }
            },
        );
        let Some(token) = found else {
            let detail = "the token is not known; `springtide tokens list` shows those that are";
            return Err(Refusal::new(Kind::Unauthenticated, detail));
        };
        if !token.scopes.iter().any(|has| has == scope) {
            let detail = format!("the token `{}` does not have the scope `{scope}`", token.name);
            return Err(Refusal::new(Kind::Forbidden, detail));
        }
        Ok(token.name.clone())
    }
}

fn read(rows: Vec<TokenRow>) -> Vec<Token> {
    let token = |row: TokenRow| {
        let hash = from_hex(&row.sha256);
        if hash.is_none() {
            tracing::error!(token = row.name, "a token's hash is no SHA-256; nobody can use it");
        }
        // One that can't be read still means that tokens are needed.
        Token {
            hash: hash.unwrap_or_default(),
            scopes: hash.map_or_else(Vec::new, |_| row.scopes),
            name: row.name,
        }
    };
    rows.into_iter().map(token).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Without tokens, a web page that a user of this machine visits must not come in by a name that its owner points at
/// 127.0.0.1 ("DNS rebinding"): only this machine's own names are served.
fn check_host(headers: &HeaderMap) -> Result<()> {
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let own = address.map_or_else(
        |_| name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
        |address| address.is_loopback(),
    );
    if own {
        return Ok(());
    }
    let detail = "without tokens the service is for this machine only: name it 127.0.0.1 or localhost, \
                  or make a token with `springtide tokens create NAME`";
    Err(Refusal::new(Kind::Forbidden, detail))
}

/// A scope that an endpoint asks for.
pub trait Scope: Send + Sync {
    /// Its name in tokens.
    const NAME: &'static str;
}

/// Post, cancel and retry jobs.
pub struct Submit;
/// See everything.
pub struct Read;
/// Push models, handle nodes, leases and launches.
pub struct Operate;

impl Scope for Submit {
    const NAME: &'static str = "submit";
}
impl Scope for Read {
    const NAME: &'static str = "read";
}
impl Scope for Operate {
    const NAME: &'static str = "operate";
}

/// Proof that the request may do what needs this scope. An endpoint that takes none is open to everyone.
pub struct Allowed<S> {
    /// The name of its token; empty without tokens.
    pub owner: String,
    scope: PhantomData<S>,
}

impl<S: Scope> FromRequestParts<Shared> for Allowed<S> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let owner = api.auth.check(&parts.headers, S::NAME).await?;
        Ok(Self { owner, scope: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tokens_only_loopback_is_listened_on() {
        for (listen, tokens, fine) in [
            ("127.0.0.1:7860", false, true),
            ("[::1]:7860", false, true),
            ("0.0.0.0:7860", false, false),
            ("10.0.0.1:7860", false, false),
            ("0.0.0.0:7860", true, true),
        ] {
            assert_eq!(check_listen(listen.parse().unwrap(), tokens).is_ok(), fine, "{listen}");
        }
        let message = check_listen("0.0.0.0:1".parse().unwrap(), false).unwrap_err().to_string();
        assert!(message.contains("springtide tokens create"), "{message}");
    }

    #[test]
    fn other_names_than_this_machines_own_are_refused() {
        let host = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, name.parse().unwrap());
            check_host(&headers).is_ok()
        };
        assert!(host("127.0.0.1:7860") && host("localhost") && host("LOCALHOST:80") && host("[::1]:7860"));
        assert!(!host("evil.example:7860") && !host("10.0.0.1") && !host("localhost.evil.example"));
        assert!(check_host(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn hashes_are_read_and_compared_whole() {
        let hash = from_hex(&"0f".repeat(32)).unwrap();
        assert!(is_same(&hash, &[0x0f; 32]));
        assert!(!is_same(&hash, &[0x0e; 32]));
        assert!(from_hex("0f").is_none() && from_hex(&"xy".repeat(32)).is_none());
    }
}
