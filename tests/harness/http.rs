//! A small blocking HTTP/1.1 client (RFC 9112), so that the tests depend on nothing that the
//! program under test depends on.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take: longer than the node's own limit for quick requests.
const BOUND: Duration = Duration::from_secs(35);

/// Asks one node.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it is shown, if anything.
    pub token: Option<String>,
}

/// What a node answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(e) => panic!(
                "an answer with status {} is no JSON: {e}\n{}",
                self.status,
                self.text()
            ),
        }
    }

    /// What an error says: its word, its sentence and what to do next.
    ///
    /// # Panics
    /// If it is no error of the shape that all errors have.
    #[track_caller]
    pub fn error(&self) -> [String; 3] {
        let error = &self.json()["error"];
        ["code", "message", "next"].map(|part| match error[part].as_str() {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => panic!("an error without `{part}`: {}", self.text()),
        })
    }
}

impl Client {
    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// If the node does not answer, or not in HTTP.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut stream = self.open(method, path, headers, body)?;
        let (status, headers) = head(&mut stream)?;
        let mut answer = Answer {
            status,
            headers,
            body: vec![],
        };
        if answer
            .headers
            .get("transfer-encoding")
            .is_some_and(|v| v.contains("chunked"))
        {
            Chunks::new(stream).read_to_end(&mut answer.body)?;
        } else if let Some(length) = answer.headers.get("content-length") {
            let length = length.parse().map_err(|_| io::Error::other("no length"))?;
            stream.take(length).read_to_end(&mut answer.body)?;
        } else {
            stream.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Begins a request whose answer goes on and on; returns its body.
    pub(crate) fn follow(&self, path: &str) -> io::Result<impl BufRead + use<>> {
        let mut stream = self.open("GET", path, &[], b"")?;
        stream.get_ref().set_read_timeout(None)?;
        let (status, headers) = head(&mut stream)?;
        let is_chunked = headers
            .get("transfer-encoding")
            .is_some_and(|v| v.contains("chunked"));
        if status != 200 || !is_chunked {
            return Err(io::Error::other(format!(
                "{path} answered {status} {headers:?}"
            )));
        }
        Ok(BufReader::new(Chunks::new(stream)))
    }

    fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect_timeout(&self.addr, BOUND)?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.addr);
        if let Some(token) = &self.token {
            request.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        ));
        stream.write_all(request.as_bytes())?;
        // A server that refuses a large body early may close before it has read it all.
        match stream.write_all(body) {
            Err(e)
                if !matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Err(e);
            }
            _ => {}
        }
        Ok(BufReader::new(stream))
    }

    /// Asks, and expects 200 with JSON.
    ///
    /// # Panics
    /// If there is another answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.try_get(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// Asks, whatever the status.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn try_get(&self, path: &str) -> Answer {
        match self.send("GET", path, &[], b"") {
            Ok(answer) => answer,
            Err(e) => panic!("GET {path}: {e}"),
        }
    }

    /// Sends JSON, whatever the status of the answer.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn try_post(&self, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        match self.send("POST", path, &json, body.to_string().as_bytes()) {
            Ok(answer) => answer,
            Err(e) => panic!("POST {path}: {e}"),
        }
    }

    /// Sends JSON, and expects success with JSON.
    ///
    /// # Panics
    /// If there is another answer.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.try_post(path, body);
        assert!(
            (200..300).contains(&answer.status),
            "POST {path}: {}",
            answer.text()
        );
        answer.json()
    }

    /// Sends bytes as they are and reads what comes back within a second.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut back = vec![];
        let Ok(mut stream) = TcpStream::connect_timeout(&self.addr, BOUND) else {
            return back;
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        stream.write_all(bytes).ok();
        stream.read_to_end(&mut back).ok();
        back
    }
}

/// The status and the headers of an answer.
fn head(stream: &mut impl BufRead) -> io::Result<(u16, BTreeMap<String, String>)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None => return Ok((status, headers)),
        }
    }
}

/// A chunked body without its chunks.
struct Chunks<R> {
    from: R,
    left: u64,
    ended: bool,
}

impl<R: BufRead> Chunks<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            ended: false,
        }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        self.left = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::other(format!("the body broke off: {line:?}")))?;
        self.ended = self.left == 0;
        Ok(())
    }
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ended || into.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            self.next_chunk()?;
            if self.ended {
                return Ok(0);
            }
        }
        let most = into
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.from.read(&mut into[..most])?;
        if n == 0 {
            return Err(io::Error::other("the body broke off within a chunk"));
        }
        self.left -= n as u64;
        if self.left == 0 {
            let mut end = [0; 2];
            self.from.read_exact(&mut end)?;
        }
        Ok(n)
    }
}
