//! A small web service that a test breaks and a playbook heals: it answers 200 unless a file says
//! that it is broken.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The service. It ends when dropped.
#[derive(Debug)]
pub struct Service {
    /// Its port on loopback.
    pub port: u16,
    /// While this file is there, every answer is 503. Removing it heals the service.
    pub broken: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts it; it is broken while `broken` exists.
    ///
    /// # Panics
    /// If there is no port for it.
    pub fn start(broken: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, marker) = (stop.clone(), broken.to_owned());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    answer(stream, marker.exists());
                }
            }
        });
        Self {
            port,
            broken: broken.to_owned(),
            stop,
            thread: Some(thread),
        }
    }

    /// Breaks it.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn break_it(&self) {
        std::fs::write(&self.broken, "broken\n").unwrap();
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.broken.exists()
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.port)
    }
}

fn answer(stream: TcpStream, is_broken: bool) {
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok();
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        line.clear();
    }
    let (status, body) = if is_broken {
        ("503 Service Unavailable", "broken\n")
    } else {
        ("200 OK", "ok\n")
    };
    let length = body.len();
    write!(
        &stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .ok();
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
