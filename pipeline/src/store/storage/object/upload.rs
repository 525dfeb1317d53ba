//! Objects on their way up.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use object_store::{Error, MultipartUpload, ObjectStoreExt as _, PutPayload};
use tokio::task::JoinHandle;

use super::super::{Storage as _, Upload};
use super::bucket::{begin, wait};
use super::{Objects, is_other};

/// Bytes that go up at once.
const PIECE: usize = 8 << 20;
/// Pieces that are on their way at once.
const PIECES: usize = 4;
/// How often lines of a log are put.
const LOGGED: Duration = Duration::from_secs(10);

/// An object that goes up.
pub(super) struct Uploading {
    objects: Objects,
    name: String,
    rest: Vec<u8>,
    /// Once there is more than one piece.
    pieces: Option<Box<dyn MultipartUpload>>,
    under_way: VecDeque<JoinHandle<Result<(), Error>>>,
}

impl Uploading {
    pub fn new(objects: &Objects, name: &str) -> Self {
        let (objects, name) = (objects.clone(), name.to_owned());
        Self { objects, name, rest: Vec::new(), pieces: None, under_way: VecDeque::new() }
    }

    /// Sends a piece on its way.
    fn send(&mut self, piece: Vec<u8>) -> io::Result<()> {
        self.objects.check()?;
        if self.pieces.is_none() {
            let made =
                self.objects.ask("write", &self.name, |bucket, key| async move { bucket.store.put_multipart(&key).await });
            self.pieces = Some(made?);
        }
        while self.under_way.len() >= PIECES {
            self.settle_one()?;
        }
        if let Some(pieces) = &mut self.pieces {
            self.under_way.push_back(begin(pieces.put_part(PutPayload::from(piece))));
        }
        Ok(())
    }

    /// Waits for the oldest piece that is on its way.
    fn settle_one(&mut self) -> io::Result<()> {
        let Some(piece) = self.under_way.pop_front() else { return Ok(()) };
        let sent = wait(piece).map_err(io::Error::other)?;
        sent.map_err(|error| self.objects.bucket.refused("write", &self.name, error))
    }

    fn give_up(&mut self) {
        self.under_way.drain(..).for_each(|piece| piece.abort());
        if let Some(mut pieces) = self.pieces.take() {
            let _ = wait(async move { pieces.abort().await });
        }
    }
}

impl Write for Uploading {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let taken = buffer.len().min(PIECE - self.rest.len());
        self.rest.extend_from_slice(&buffer[..taken]);
        if self.rest.len() == PIECE {
            let piece = std::mem::take(&mut self.rest);
            self.send(piece)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for Uploading {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.pieces.is_none() {
            let bytes = std::mem::take(&mut self.rest);
            return match self.objects.replace_if(&self.name, &bytes, None) {
                Err(error) if is_other(&error) => Err(io::Error::new(io::ErrorKind::AlreadyExists, error)),
                other => other.map(drop),
            };
        }
        if !self.rest.is_empty() {
            let piece = std::mem::take(&mut self.rest);
            self.send(piece)?;
        }
        while !self.under_way.is_empty() {
            self.settle_one()?;
        }
        self.objects.check()?;
        let Some(mut pieces) = self.pieces.take() else { return Ok(()) };
        let done = wait(async move { pieces.complete().await.map(drop) });
        done.map_err(|error| self.objects.bucket.refused("write", &self.name, error))
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Lines that are put now and then, all of them each time: what is appended to elsewhere is written anew here.
pub(super) struct Log {
    objects: Objects,
    name: String,
    lines: Vec<u8>,
    put: Instant,
    under_way: Option<JoinHandle<Result<(), Error>>>,
    /// Whether there are lines that are not on their way.
    rest: bool,
}

impl Log {
    pub fn new(objects: &Objects, name: &str) -> Self {
        let (objects, name) = (objects.clone(), name.to_owned());
        Self { objects, name, lines: Vec::new(), put: Instant::now(), under_way: None, rest: false }
    }

    fn send(&mut self) -> io::Result<()> {
        let (bucket, key, lines) = (self.objects.bucket.clone(), self.objects.bucket.key(&self.name)?, self.lines.clone());
        self.under_way = Some(begin(async move { bucket.store.put(&key, lines.into()).await.map(drop) }));
        (self.put, self.rest) = (Instant::now(), false);
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(buffer);
        self.rest = true;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let is_free = self.under_way.as_ref().is_none_or(JoinHandle::is_finished);
        if self.rest && is_free && self.put.elapsed() >= LOGGED { self.send() } else { Ok(()) }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // They may be lost, and nobody waits long for them.
        let before = self.under_way.take();
        let rest = (self.rest && self.send().is_ok()).then(|| self.under_way.take()).flatten();
        wait(async move {
            for sent in before.into_iter().chain(rest) {
                let _ = tokio::time::timeout(LOGGED, sent).await;
            }
        });
    }
}
