//! The members of a shard that may matter to its images, by the keys of their samples.

use super::left_out;
use super::members::{Kind, Member, Members, Next, readable};
use super::tape::{Packing, Raw, Tape};
use crate::{Error, LeftOut, folder};

/// A member that is a file.
#[derive(Debug)]
pub struct Part {
    /// Its path in the tar, without `./` before it.
    pub path: String,
    /// How much of the path is the key of its sample.
    key: usize,
    /// What follows the key and its dot, in lower case.
    pub ending: String,
    /// Whether it is named as an image.
    pub is_image: bool,
    /// Where its bytes begin in the unpacked shard.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
    /// When the file was last written to, in microseconds since 1970.
    pub modified_us: Option<i64>,
}

impl Part {
    /// The key of its sample.
    pub fn key(&self) -> &str {
        &self.path[..self.key]
    }
}

/// A walk through a shard.
pub struct Walk<'a> {
    members: Members<'a>,
    shard: &'a str,
    is_over: bool,
    /// Whether the walk came to the end of the shard.
    pub is_whole: bool,
    /// What is wrong with the shard and its members.
    pub left_out: Vec<LeftOut>,
}

impl<'a> Walk<'a> {
    /// Through a file, which is called `shard` in messages.
    ///
    /// # Errors
    /// Memory for unpacking cannot be had.
    pub fn open(raw: Raw<'a>, shard: &'a str, packing: Packing) -> Result<Self, Error> {
        let members = Members::new(Tape::open(raw, packing)?);
        Ok(Self { members, shard, is_over: false, is_whole: false, left_out: Vec::new() })
    }

    /// The next member that is an image or has an ending that is wanted.
    ///
    /// # Errors
    /// The shard cannot be read.
    pub fn next(&mut self, wants: &dyn Fn(&str) -> bool) -> Result<Option<Part>, Error> {
        while !self.is_over {
            match self.members.next()? {
                Next::Member(member) => {
                    let offset = self.members.tape.at();
                    match part(&member, offset, wants) {
                        Ok(Some(part)) => return Ok(Some(part)),
                        Ok(None) => {}
                        Err(reason) => self.leave_out(Some(&readable(&member.name)), reason),
                    }
                }
                Next::End => (self.is_over, self.is_whole) = (true, true),
                Next::Damage(why) => {
                    self.is_over = true;
                    self.leave_out(None, format!("{why}; no further image is read of it"));
                }
            }
        }
        Ok(None)
    }

    /// The bytes of the member that came last; none if the shard ends before they do.
    ///
    /// # Errors
    /// The shard cannot be read.
    pub fn bytes(&mut self, part: &Part) -> Result<Option<&[u8]>, Error> {
        let bytes = self.members.tape.look(part.size)?;
        Ok(if bytes.len() as u64 == part.size { Some(bytes) } else { None })
    }

    /// The first bytes of the member that came last, up to so many.
    ///
    /// # Errors
    /// The shard cannot be read.
    pub fn front(&mut self, part: &Part, most: u64) -> Result<&[u8], Error> {
        self.members.tape.look(part.size.min(most))
    }

    /// Bytes that were fetched or unpacked so far.
    pub fn cost(&self) -> u64 {
        self.members.tape.cost()
    }

    /// Says why a member, or the rest of the shard, makes no row.
    pub fn leave_out(&mut self, member: Option<&str>, reason: impl Into<String>) {
        self.left_out.push(left_out(self.shard, member, reason));
    }
}

/// What a member is to a sample; nothing if it is to be passed over; or why it is left out.
fn part(member: &Member, offset: u64, wants: &dyn Fn(&str) -> bool) -> Result<Option<Part>, &'static str> {
    let Member { name, size, modified_us, kind } = member;
    let shown = readable(name);
    let path = shown.trim_start_matches("./");
    let is_hidden = path.split('/').any(|part| part.starts_with('.') && part != "..");
    let first = path.split_once('/').map_or(path, |(first, _)| first);
    let is_meta = first == "__MACOSX" || (first.len() >= 4 && first.starts_with("__") && first.ends_with("__"));
    if is_hidden || is_meta || *kind == Kind::Folder {
        return Ok(None);
    }
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let Some(dot) = path[name_at..].find('.') else { return Ok(None) };
    let (key, ending) = (name_at + dot, path[name_at + dot + 1..].to_lowercase());
    let is_image = folder::is_image(path);
    if !is_image && !wants(&ending) {
        return Ok(None);
    }
    if std::str::from_utf8(name).is_err() {
        return Err(crate::local::NOT_TEXT);
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err("its name leads out of the folder that the tar is unpacked into");
    }
    if let Kind::Odd(why) = kind {
        return Err(*why);
    }
    Ok(Some(Part { path: path.to_owned(), key, ending, is_image, offset, size: *size, modified_us: *modified_us }))
}
