//! What a JPEG consists of: its segments, its scans, and the same picture without anything else.
//!
//! libjpeg-turbo reads on behind most irregularities and keeps the first of its warnings alone, so that a harmless one (bytes
//! between two segments of the header, an unknown version of JFIF, an ICC profile that is cut) hides a harmful one behind it. So
//! it is given the segments that make the picture and nothing else: whatever it warns of then, is damage of the picture.

use std::ops::Range;

use super::Damage;

/// A component of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component {
    /// Its number in the file.
    pub id: u8,
    /// Blocks of it in a unit, across and down.
    pub sampling: [usize; 2],
    /// Which quantisation table it uses.
    pub quantisation: u8,
}

/// The picture's frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Which process: the marker's second byte, 0xc0 for the baseline one.
    pub process: u8,
    /// Bits a sample.
    pub precision: u8,
    /// Columns and rows of pixels.
    pub size: [usize; 2],
    pub components: Vec<Component>,
}

/// A segment within the file, by its marker's second byte and its body.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    pub marker: u8,
    pub body: &'a [u8],
}

/// A part of the picture, in the file's order.
#[derive(Debug, Clone)]
pub enum Piece<'a> {
    /// Tables, a frame or the restart interval.
    Segment(Segment<'a>),
    /// A scan's header, and where its entropy-coded data lie.
    Scan(&'a [u8], Range<usize>),
}

/// What a JPEG consists of.
#[derive(Debug)]
pub struct Parts<'a> {
    pub frame: Frame,
    /// What makes the picture.
    pub pieces: Vec<Piece<'a>>,
    /// Whether a JFIF segment says that three components are luminance and colour differences.
    pub jfif: bool,
    /// The colour transform that Adobe's segment names.
    pub adobe: Option<u8>,
    /// Bodies of APP1 segments: Exif and XMP.
    pub app1: Vec<&'a [u8]>,
    /// Whether there is an end marker.
    pub ends: bool,
}

const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
/// The most segments of one file; a tiled ICC profile has 255.
const MAX_SEGMENTS: usize = 100_000;

impl<'a> Parts<'a> {
    /// Takes a JPEG apart.
    ///
    /// # Errors
    /// There is no picture in it.
    pub fn of(bytes: &'a [u8]) -> Result<Self, Damage> {
        let trusting = Self::walk(bytes, true);
        if trusting.as_ref().is_ok_and(Self::has_steps) {
            return trusting;
        }
        // A segment that nothing of the picture depends on may claim bytes of those that do.
        match Self::walk(bytes, false) {
            Ok(doubting) if trusting.is_err() || doubting.has_steps() => Ok(doubting),
            _ => trusting,
        }
    }

    /// With `trusting`, the length of an APP or COM segment is believed unless the file is shorter; else only where a marker
    /// follows.
    fn walk(bytes: &'a [u8], trusting: bool) -> Result<Self, Damage> {
        let mut frame = None;
        let (mut pieces, mut app1) = (Vec::new(), Vec::new());
        let (mut jfif, mut adobe, mut ends, mut scans) = (false, None, false, 0);
        let mut at = 2;
        for _ in 0..MAX_SEGMENTS {
            let Some(marker) = next_marker(bytes, &mut at) else { break };
            match marker {
                EOI => {
                    ends = true;
                    break;
                }
                // Markers without a body mean nothing between segments.
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let length = bytes.get(at..at + 2).map_or(0, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
            let body = if length < 2 { None } else { bytes.get(at + 2..at + length) };
            let optional = matches!(marker, 0xe0..=0xef | 0xfe);
            let believed = trusting || bytes.get(at + length) == Some(&0xff);
            let body = match body {
                Some(body) if !optional || believed => body,
                _ if optional => {
                    at = next_segment(bytes, at + 2);
                    continue;
                }
                _ if scans > 0 => break,
                _ => return Err(Damage::Header("a segment of its header is cut")),
            };
            at += length;
            match marker {
                0xe0 => jfif |= body.len() >= 14 && body.starts_with(b"JFIF\0"),
                0xe1 => app1.push(body),
                0xee if body.len() >= 12 && body.starts_with(b"Adobe") => adobe = Some(body[11]),
                SOS => {
                    let data = scan_data(bytes, at);
                    at = data.end;
                    scans += 1;
                    pieces.push(Piece::Scan(body, data));
                }
                // DNL and hierarchical processes, which libjpeg-turbo does not know, are left to its judgement.
                0x02..=0xdf => {
                    if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) && frame.is_none() {
                        frame = Some(Frame::of(marker, body)?);
                    }
                    pieces.push(Piece::Segment(Segment { marker, body }));
                }
                _ => {}
            }
        }
        let frame = frame.ok_or(Damage::Header("it has no frame"))?;
        if scans == 0 {
            return Err(Damage::Header("it ends before its picture begins"));
        }
        Ok(Self { frame, pieces, jfif, adobe, app1, ends })
    }

    /// Whether all its components have quantisation tables, by their numbers.
    fn has_steps(&self) -> bool {
        let tables = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Segment(Segment { marker: DQT, body }) => Some(*body),
            _ => None,
        });
        let mut defined = [false; 16];
        for mut body in tables {
            while let Some((&head, rest)) = body.split_first() {
                defined[usize::from(head & 15)] = true;
                body = rest.get(if head >> 4 == 0 { 64 } else { 128 }..).unwrap_or_default();
            }
        }
        let lossless = matches!(self.frame.process, 0xc3 | 0xcb);
        lossless || self.frame.components.iter().all(|component| defined[usize::from(component.quantisation & 15)])
    }

    /// How many scans there are.
    pub fn scans(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Scan(..))).count()
    }

    /// Writes the same picture without all else, and with an end. Bytes of a scan from `end` on are left away.
    pub fn distil(&self, bytes: &[u8], end: Option<usize>, out: &mut Vec<u8>) {
        let end = end.unwrap_or(bytes.len());
        out.clear();
        out.extend([0xff, 0xd8]);
        if self.jfif {
            out.extend(b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
        }
        if let Some(transform) = self.adobe {
            // libjpeg-turbo takes an unknown transform for this one, with a warning.
            let usual = if self.frame.components.len() == 4 { 2 } else { 1 };
            out.extend(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0");
            out.push(if transform > 2 { usual } else { transform });
        }
        for piece in &self.pieces {
            let (marker, body) = match piece {
                Piece::Segment(segment) => (segment.marker, segment.body),
                Piece::Scan(header, _) => (SOS, *header),
            };
            out.extend([0xff, marker]);
            out.extend((body.len() as u16 + 2).to_be_bytes());
            out.extend(body);
            if let Piece::Scan(_, data) = piece {
                out.extend(&bytes[data.start..data.end.min(end).max(data.start)]);
            }
        }
        out.extend([0xff, EOI]);
    }
}

impl Frame {
    fn of(process: u8, body: &[u8]) -> Result<Self, Damage> {
        let cut = || Damage::Header("its frame is cut");
        let head = body.first_chunk::<6>().ok_or_else(cut)?;
        let length = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
        let count = usize::from(head[5]);
        let components = body.get(6..6 + count * 3).ok_or_else(cut)?.chunks_exact(3);
        let components = components.map(|three| Component {
            id: three[0],
            sampling: [usize::from(three[1] >> 4), usize::from(three[1] & 15)],
            quantisation: three[2],
        });
        let size = [length(head[3], head[4]), length(head[1], head[2])];
        Ok(Self { process, precision: head[0], size, components: components.collect() })
    }

    /// Whether its scans are one behind the other in frequency or precision.
    pub fn is_progressive(&self) -> bool {
        matches!(self.process, 0xc2 | 0xca)
    }

    /// The largest sampling, across and down.
    pub fn sampling(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.components.iter().map(|component| component.sampling[axis]).max().unwrap_or(1).max(1))
    }

    /// Blocks of a component, across and down: whole units of interleaved scans.
    pub fn blocks(&self, component: &Component) -> [usize; 2] {
        let largest = self.sampling();
        [0, 1].map(|axis| self.size[axis].div_ceil(8 * largest[axis]) * component.sampling[axis])
    }
}

/// The restart interval that a segment sets.
pub fn restart_interval(segment: &Segment<'_>) -> Option<usize> {
    let two = segment.body.first_chunk::<2>().filter(|_| segment.marker == DRI)?;
    Some(usize::from(u16::from_be_bytes(*two)))
}

/// The next marker's second byte, and `at` behind it. Bytes that are none are passed over.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)?;
        *at += bytes[*at..].iter().position(|&byte| byte != 0xff)?;
        let marker = bytes[*at];
        *at += 1;
        if marker != 0 {
            return Some(marker);
        }
    }
}

/// Where the next segment begins that another follows: behind a length that cannot be right.
fn next_segment(bytes: &[u8], start: usize) -> usize {
    let follows = |at: usize| match bytes.get(at..at + 4) {
        Some(&[0xff, 0xc0..=0xcf | 0xdb | 0xdd | 0xe0..=0xef | 0xfe, high, low]) => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            length >= 2 && bytes.get(at + 2 + length) == Some(&0xff)
        }
        _ => false,
    };
    (start..bytes.len()).find(|&at| follows(at)).unwrap_or(bytes.len())
}

/// The entropy-coded data from there on: up to the next marker, those of restarts aside.
fn scan_data(bytes: &[u8], start: usize) -> Range<usize> {
    let mut at = start;
    loop {
        at += interval(&bytes[at..]);
        // Bytes may fill up before a marker.
        let fill = bytes[at..].iter().take_while(|&&byte| byte == 0xff).count();
        match bytes.get(at + fill) {
            Some(0xd0..=0xd7) => at += fill + 1,
            Some(_) => return start..at,
            None => return start..bytes.len(),
        }
    }
}

/// How many bytes come before the next marker, or before what fills up to it.
pub fn interval(data: &[u8]) -> usize {
    memchr::memchr_iter(0xff, data).find(|&at| data.get(at + 1) != Some(&0)).unwrap_or(data.len())
}
