//! Outputs: their bytes, checked against their SHA-256.

use std::path::Path;

use futures::StreamExt;
use reqwest::{Method, Response};
use sha2::{Digest, Sha256};
use springtide_core::api::OutputView;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{Client, Error};

/// What was downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

impl Client {
    /// Writes an output's bytes to `target`. The checksum is known only at the end: what was written counts only if
    /// this is `Ok`.
    pub async fn download(
        &self,
        output: &OutputView,
        target: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Downloaded, Error> {
        let link = output.url.as_deref().ok_or(Error::NoFile(output.index))?;
        let response = self.open(link).await?;
        let mut hash = Sha256::new();
        let mut size_bytes = 0;
        let mut chunks = response.bytes_stream();
        let name = || format!("GET {link}");
        loop {
            let idle = self.http.options.idle_timeout;
            let next = tokio::time::timeout(idle, chunks.next()).await;
            let Some(chunk) = next.map_err(|_| self.http.timeout(name(), idle))? else { break };
            let chunk = chunk.map_err(|e| self.http.network(name(), e))?;
            hash.update(&chunk);
            size_bytes += chunk.len() as u64;
            target
                .write_all(&chunk)
                .await
                .map_err(|source| Error::Write { path: "the output".into(), source })?;
        }
        let found = hex(&hash.finalize());
        match &output.sha256 {
            Some(expected) if *expected != found => {
                Err(Error::Checksum { url: link.to_owned(), expected: expected.clone(), found })
            }
            _ => Ok(Downloaded { size_bytes, sha256: found }),
        }
    }

    /// Saves an output as a file: whole or not at all, tried again when the connection breaks.
    pub async fn download_to(&self, output: &OutputView, path: &Path) -> Result<Downloaded, Error> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = Path::new(&part);
        let policy = self.http.options.retry;
        let mut failed = 0;
        let result = loop {
            match self.download_once(output, part).await {
                Err(error) if error.is_unreachable() || matches!(error, Error::Checksum { .. }) => {
                    failed += 1;
                    if failed >= policy.attempts {
                        break Err(error);
                    }
                    tokio::time::sleep(policy.pause(failed, self.http.random.unit())).await;
                }
                result => break result,
            }
        };
        let renamed = match &result {
            Ok(_) => tokio::fs::rename(part, path).await,
            // It may not have come to a file at all.
            Err(_) => tokio::fs::remove_file(part).await.or(Ok(())),
        };
        renamed.map_err(|source| Error::Write { path: path.to_owned(), source })?;
        result
    }

    async fn download_once(&self, output: &OutputView, part: &Path) -> Result<Downloaded, Error> {
        let failed = |source| Error::Write { path: part.to_owned(), source };
        let mut file = tokio::fs::File::create(part).await.map_err(failed)?;
        let done = self.download(output, &mut file).await.map_err(|error| match error {
            Error::Write { source, .. } => failed(source),
            other => other,
        })?;
        file.flush().await.map_err(failed)?;
        Ok(done)
    }

    async fn open(&self, link: &str) -> Result<Response, Error> {
        let name = || format!("GET {link}");
        let limit = self.http.options.request_timeout;
        let request = self.http.request(Method::GET, self.http.link(link)?);
        let response = tokio::time::timeout(limit, request.send()).await;
        let response = response.map_err(|_| self.http.timeout(name(), limit))?;
        let response = response.map_err(|e| self.http.network(name(), e))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.http.refusal(name(), response).await)
        }
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}
