//! The members of a tar, one after another: where their bytes lie, and what is wrong with those that have none.
//!
//! References: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar's manual, "Basic Tar Format".

use tar::{EntryType, Header};

use super::tape::Tape;
use crate::Error;

/// Bytes of a header; members begin at multiples of it.
const BLOCK: u64 = 512;
/// Bytes that a long name or a pax header may have: no more are read of it.
const NAME_BYTES: u64 = 1 << 20;
/// How far behind the end of an archive another one is looked for: packers fill up the last record, which mostly has 10 KiB.
const BEHIND_END: u64 = 64 << 10;

/// A member, or where there is no further one.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A member. The tape stands at its bytes.
    Member(Member),
    /// The archive is over, as it should be.
    End,
    /// What follows cannot be read, and why.
    Damage(String),
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// As it stands there.
    pub name: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// When the file was last written to, in microseconds since 1970.
    pub modified_us: Option<i64>,
    /// What kind it is.
    pub kind: Kind,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It has bytes.
    File,
    /// It says that there is a folder.
    Folder,
    /// The member has no bytes of its own, for this reason.
    Odd(&'static str),
}

/// What pax headers and GNU's long names say of the next member.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    modified_us: Option<i64>,
    is_sparse: bool,
}

/// The members of a shard.
pub struct Members<'a> {
    /// The shard.
    pub tape: Tape<'a>,
    /// Bytes between the tape's position and the end of the last member, and of its last block.
    data: u64,
    padding: u64,
    /// Its name.
    last: String,
    any: bool,
}

impl<'a> Members<'a> {
    /// The members of a tape that stands at its beginning.
    pub fn new(tape: Tape<'a>) -> Self {
        Self { tape, data: 0, padding: 0, last: String::new(), any: false }
    }

    /// The next member.
    ///
    /// # Errors
    /// The shard cannot be read.
    pub fn next(&mut self) -> Result<Next, Error> {
        let mut extended = Extended::default();
        loop {
            if !self.tape.skip(std::mem::take(&mut self.data))? {
                let last = &self.last;
                return Ok(self.damage(&format!("it ends within its member {last}")));
            }
            if !self.tape.skip(std::mem::take(&mut self.padding))? {
                return Ok(self.damage("it ends without the end marker of a tar: it may have been cut"));
            }
            let block = self.tape.look(BLOCK)?;
            if (block.len() as u64) < BLOCK {
                return Ok(self.short());
            }
            if is_zero(block) {
                return self.end();
            }
            if !is_header(block) {
                return Ok(self.no_header());
            }
            let header = Header::from_byte_slice(block).clone();
            let Some(size) = stored_size(&header) else {
                return Ok(self.damage("the header of a member has no size"));
            };
            self.any = true;
            self.tape.skip(BLOCK)?;
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => match self.text(size)? {
                    Some(name) => extended.name = Some(until_nul(&name).to_vec()),
                    None => return Ok(self.damage("a member's name is longer than a name can be")),
                },
                EntryType::XHeader => match self.text(size)? {
                    Some(records) => {
                        if let Err(why) = extended.read(&records) {
                            return Ok(self.damage(why));
                        }
                    }
                    None => return Ok(self.damage("a pax header is larger than 1 MiB")),
                },
                // What they say holds of a link, or of all members: their names and sizes are not among that.
                EntryType::GNULongLink | EntryType::XGlobalHeader => self.pass(size),
                _ => return self.member(&header, extended, size),
            }
            if self.padding == u64::MAX {
                return Ok(self.damage("the size of a member is larger than a tar can be"));
            }
        }
    }

    fn member(&mut self, header: &Header, extended: Extended, size: u64) -> Result<Next, Error> {
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let size = extended.size.unwrap_or(size);
        self.last = readable(&name);
        let sparse = "is sparse: its bytes do not lie one behind another; pack it without --sparse";
        let (kind, size) = match header.entry_type() {
            _ if extended.is_sparse => (Kind::Odd(sparse), size),
            // Tars from before folders had a type of their own end their names with a slash.
            EntryType::Regular if name.ends_with(b"/") => (Kind::Folder, size),
            EntryType::Regular | EntryType::Continuous => (Kind::File, size),
            EntryType::Directory => (Kind::Folder, 0),
            EntryType::GNUSparse => {
                self.sparse_map(header)?;
                (Kind::Odd(sparse), size)
            }
            EntryType::Link => {
                // Some packers write the bytes of a link too, others the size alone.
                let block = self.tape.look(BLOCK)?;
                let alone = is_header(block) || is_zero(block);
                (Kind::Odd("is a link to another member: pack with --hard-dereference"), if alone { 0 } else { size })
            }
            EntryType::Symlink => (Kind::Odd("is a link: pack with --dereference"), 0),
            EntryType::Char | EntryType::Block | EntryType::Fifo => (Kind::Odd("is a device or a pipe"), 0),
            _ => (Kind::Odd("is of a kind that is not known"), size),
        };
        self.pass(size);
        if self.padding == u64::MAX {
            return Ok(self.damage("the size of a member is larger than a tar can be"));
        }
        let header_us = || i64::try_from(header.mtime().ok()?).ok()?.checked_mul(1_000_000);
        let modified_us = extended.modified_us.or_else(header_us);
        Ok(Next::Member(Member { name, size, modified_us, kind }))
    }

    /// The next header stands behind so many bytes.
    fn pass(&mut self, size: u64) {
        self.data = size;
        let whole = size.checked_next_multiple_of(BLOCK).filter(|&whole| whole <= i64::MAX as u64);
        self.padding = whole.map_or(u64::MAX, |whole| whole - size);
    }

    /// Moves behind the further blocks of a sparse file's map.
    fn sparse_map(&mut self, header: &Header) -> Result<(), Error> {
        const MORE_IN_HEADER: usize = 482;
        const MORE_IN_BLOCK: usize = 504;
        let mut more = header.as_bytes()[MORE_IN_HEADER] != 0;
        while more {
            more = self.tape.look(BLOCK)?.get(MORE_IN_BLOCK).is_some_and(|&byte| byte != 0);
            self.tape.skip(BLOCK)?;
        }
        Ok(())
    }

    /// The text that stands instead of a member's bytes; none if it is too long.
    fn text(&mut self, size: u64) -> Result<Option<Vec<u8>>, Error> {
        if size > NAME_BYTES {
            return Ok(None);
        }
        self.pass(size);
        self.last = "@LongLink".to_owned();
        Ok(Some(self.tape.look(size)?.to_vec()))
    }

    fn damage(&self, what: &str) -> Next {
        Next::Damage(match self.tape.damage() {
            Some(why) => format!("its packed bytes are damaged ({why}), so that {what}"),
            None => what.to_owned(),
        })
    }

    /// What follows when fewer bytes come than a block has.
    fn short(&mut self) -> Next {
        match (self.any, self.tape.at()) {
            (false, 0) if self.tape.look(1).is_ok_and(<[u8]>::is_empty) => self.damage("it is empty, and no tar"),
            (false, _) => self.damage("it is no tar: it has no whole header"),
            (true, _) => self.damage("it ends without the end marker of a tar: it may have been cut"),
        }
    }

    fn no_header(&mut self) -> Next {
        let at = self.tape.at();
        let packed =
            self.tape.look(4).is_ok_and(|front| front.starts_with(&[0x1f, 0x8b]) || front == [0x28, 0xb5, 0x2f, 0xfd]);
        match self.any {
            false if packed => self.damage("it is packed: its name should end in .tar.gz or .tar.zst"),
            false => self.damage("it is no tar: it does not begin with a header"),
            true => self.damage(&format!("the header at byte {at} is damaged: its check sum is wrong")),
        }
    }

    /// Behind a block of zeros: two are an end.
    fn end(&mut self) -> Result<Next, Error> {
        let at = self.tape.at();
        let behind = self.tape.look(BEHIND_END)?;
        let second = &behind[BLOCK as usize..];
        if second.len() >= BLOCK as usize && !is_zero(&second[..BLOCK as usize]) {
            return Ok(self.damage(&format!("zeros stand at byte {at}, where a header should")));
        }
        if behind.chunks_exact(BLOCK as usize).any(is_header) {
            return Ok(Next::Damage("another tar stands behind its end, which is not read: make one of both".to_owned()));
        }
        // The check sum of a packed shard stands at its end.
        self.tape.skip(u64::MAX)?;
        Ok(match self.tape.damage() {
            Some(why) => Next::Damage(format!("its packed bytes are damaged ({why}): images in it may be so too")),
            None => Next::End,
        })
    }
}

impl Extended {
    /// Reads the records of a pax header, each of which is `LENGTH KEY=VALUE\n`.
    fn read(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        const WRONG: &str = "a pax header is damaged";
        while !until_nul(records).is_empty() {
            let space = records.iter().take(20).position(|&byte| byte == b' ').ok_or(WRONG)?;
            let length: usize = text(&records[..space]).ok_or(WRONG)?;
            let record = records.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or(WRONG)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(WRONG)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                // An empty value takes back what was said before.
                b"path" => self.name = Some(value.to_vec()).filter(|name| !name.is_empty()),
                b"size" if value.is_empty() => self.size = None,
                b"size" => self.size = Some(text(value).ok_or("a pax header has a size that is no number")?),
                b"mtime" => self.modified_us = std::str::from_utf8(value).ok().and_then(microseconds),
                _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
                _ => {}
            }
            records = &records[length..];
        }
        Ok(())
    }
}

/// The microseconds in a number of seconds, which is written as a decimal number.
fn microseconds(seconds: &str) -> Option<i64> {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    let part: i64 = format!("{part:0<6}").get(..6)?.parse().ok().filter(|&part| part >= 0)?;
    let signed = if whole.starts_with('-') { -part } else { part };
    whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(signed)
}

/// The bytes that a header says its member has. GNU tar leaves that open for those that have none by their kind.
fn stored_size(header: &Header) -> Option<u64> {
    let is_open = header.as_old().size.iter().all(|byte| matches!(byte, 0 | b' '));
    if is_open { Some(0) } else { header.entry_size().ok() }
}

fn text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

/// Whether a block is a header: its check sum is right. Old packers added up signed bytes.
fn is_header(block: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    if block.len() as u64 != BLOCK || is_zero(block) {
        return false;
    }
    let Ok(said) = Header::from_byte_slice(block).cksum() else { return false };
    let counted = |at: usize| if SUM.contains(&at) { b' ' } else { block[at] };
    let unsigned: u32 = (0..block.len()).map(|at| u32::from(counted(at))).sum();
    let signed: i32 = (0..block.len()).map(|at| i32::from(counted(at) as i8)).sum();
    said == unsigned || i32::try_from(said) == Ok(signed)
}

/// A name as text; of one that is not UTF-8, the bytes that are not as `\xe9`.
pub fn readable(name: &[u8]) -> String {
    crate::local::readable(std::os::unix::ffi::OsStrExt::from_bytes(name))
}
