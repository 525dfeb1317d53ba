//! Whether the scans of a JPEG hold what its frame promises.
//!
//! libjpeg-turbo decodes whatever bits come: of three files with a few bytes of a scan overwritten, it warns of two. This walk reads the
//! codes as the decoder does, and no more, and also minds what a decoder need not: that a block ends with its 64th coefficient,
//! that no coefficient is one that 8-bit samples cannot give, and that the bits of each restart interval end with its last block.
//! Codes are most of what tells damage, for behind a wrong bit they are read out of step, at least for a while.
//!
//! It knows the Huffman-coded sequential and progressive processes of 8 bits a sample. Others are libjpeg-turbo's to judge.

use super::Damage;
use super::huffman::{Bits, Limits, Table};
use super::markers::{Component, Frame, Parts, Piece, Segment, interval, restart_interval};
use super::progressive::Progress;

/// The magnitude that no coefficient of 8-bit samples has before it is rounded to a step of quantisation: of 64 samples from -128 to
/// 127, the transform gives none above 8 times 128. Fast transforms are a little inexact.
const MAX_MAGNITUDE: u32 = 1024 + 16;

/// The tables that hold at some place in the file.
pub struct Tables {
    pub dc: [Option<Table>; 4],
    pub ac: [Option<Table>; 4],
    /// In zigzag order.
    quantisation: [Option<[u16; 64]>; 4],
    /// Units from one restart marker to the next; 0 without.
    pub interval: usize,
}

/// A scan's header.
pub struct Scan<'a> {
    /// Its components, with their tables' numbers: for the first coefficient, for the others.
    pub components: Vec<(usize, &'a Component, [usize; 2])>,
    /// The first and last coefficient, in zigzag order.
    pub band: [usize; 2],
    /// The bit that was sent before (0 for none), and the bit that is sent now.
    pub bits: [u32; 2],
}

/// Reads all scans, and says where the data of the last one end, before bytes that fill up to the end marker; none of a process that it
/// does not know.
///
/// # Errors
/// What is wrong with them.
pub fn check(parts: &Parts<'_>, bytes: &[u8]) -> Result<Option<usize>, Damage> {
    let frame = &parts.frame;
    let known = matches!(frame.process, 0xc0..=0xc2) && frame.precision == 8 && frame.components.len() <= 4;
    if !known || frame.size.contains(&0) {
        return Ok(None);
    }
    let mut progress = Progress::new(frame);
    // The lowest bit of each coefficient that was sent.
    let mut sent = vec![[u32::MAX; 64]; frame.components.len()];
    let mut tables = Tables::new();
    let mut end = None;
    let last = parts.pieces.iter().rposition(|piece| matches!(piece, Piece::Scan(..)));
    for (at, piece) in parts.pieces.iter().enumerate() {
        match piece {
            Piece::Segment(segment) => tables.take(segment),
            Piece::Scan(header, data) => {
                // What the header says wrong, libjpeg-turbo names.
                let Some(scan) = Scan::of(header, frame) else { return Ok(None) };
                let (start, data) = (data.start, &bytes[data.clone()]);
                let walk = Walk { frame, scan: &scan, tables: &tables, is_last: Some(at) == last };
                let read = if frame.is_progressive() { progress.scan(&walk, data)? } else { walk.sequential(data)? };
                let Some(read) = read else { return Ok(None) };
                end = Some(start + read);
                for (number, ..) in &scan.components {
                    sent[*number][scan.band[0]..=scan.band[1]].fill(scan.bits[1]);
                }
            }
        }
    }
    // A progressive picture is one before its last scan, but a file without an end was cut there.
    let complete = |sent: &[u32; 64]| sent[0] != u32::MAX && (parts.ends || sent.iter().all(|&bit| bit == 0));
    if sent.iter().all(complete) { Ok(end) } else { Err(Damage::Missing) }
}

impl Tables {
    fn new() -> Self {
        Self { dc: [const { None }; 4], ac: [const { None }; 4], quantisation: [None; 4], interval: 0 }
    }

    /// Takes over what a segment defines; what it does wrong, libjpeg-turbo names.
    fn take(&mut self, segment: &Segment<'_>) {
        match segment.marker {
            0xc4 => self.take_huffman(segment.body),
            0xdb => self.take_quantisation(segment.body),
            _ => self.interval = restart_interval(segment).unwrap_or(self.interval),
        }
    }

    fn take_huffman(&mut self, mut body: &[u8]) {
        while let Some((head, rest)) = body.split_first_chunk::<17>() {
            let counts = head[1..].first_chunk().unwrap_or(&[0; 16]);
            let length = counts.iter().map(|&count| usize::from(count)).sum::<usize>().min(rest.len());
            let table = Table::new(counts, &rest[..length]);
            let class = if head[0] & 0x10 == 0 { &mut self.dc } else { &mut self.ac };
            class[usize::from(head[0] & 3)] = table;
            body = &rest[length..];
        }
    }

    fn take_quantisation(&mut self, mut body: &[u8]) {
        while let Some((&head, rest)) = body.split_first() {
            let width = if head >> 4 == 0 { 1 } else { 2 };
            let Some((values, rest)) = rest.split_at_checked(64 * width) else { return };
            let value =
                |at: usize| values[at * width..(at + 1) * width].iter().fold(0, |all, &byte| all << 8 | u16::from(byte));
            self.quantisation[usize::from(head & 3)] = Some(std::array::from_fn(value));
            body = rest;
        }
    }

    pub fn limits(&self, component: &Component) -> Limits {
        let steps = self.quantisation[usize::from(component.quantisation & 3)].unwrap_or([1; 64]);
        let limit = |step: u16| (32 - most_steps(step.into()).leading_zeros()) as u8;
        std::array::from_fn(|at| steps.get(at).map_or(0, |&step| limit(step)))
    }

    /// The step of its first coefficient.
    pub fn step(&self, component: &Component) -> u32 {
        self.quantisation[usize::from(component.quantisation & 3)].map_or(1, |steps| u32::from(steps[0]))
    }
}

impl<'a> Scan<'a> {
    fn of(header: &[u8], frame: &'a Frame) -> Option<Self> {
        let count = usize::from(*header.first()?);
        let rest = header.get(1 + 2 * count..4 + 2 * count)?;
        let component = |pair: &[u8]| {
            let (at, component) = frame.components.iter().enumerate().find(|(_, component)| component.id == pair[0])?;
            let known = component.sampling.iter().all(|factor| (1..=4).contains(factor));
            known.then_some((at, component, [usize::from(pair[1] >> 4) & 3, usize::from(pair[1]) & 3]))
        };
        let components = header[1..1 + 2 * count].chunks_exact(2).map(component).collect::<Option<Vec<_>>>()?;
        let (band, bits) =
            ([usize::from(rest[0]), usize::from(rest[1])], [u32::from(rest[2] >> 4), u32::from(rest[2] & 15)]);
        let sequential = Self { components, band: [0, 63], bits: [0, 0] };
        if !frame.is_progressive() {
            return Some(sequential);
        }
        (band[0] <= band[1] && band[1] < 64 && bits[1] < 14).then_some(Self { band, bits, ..sequential })
    }
}

/// A scan and what holds for it.
pub struct Walk<'a> {
    pub frame: &'a Frame,
    pub scan: &'a Scan<'a>,
    pub tables: &'a Tables,
    pub is_last: bool,
}

impl<'a> Walk<'a> {
    /// Units of the scan, across and down.
    pub fn units(&self) -> [usize; 2] {
        let largest = self.frame.sampling();
        match self.scan.components[..] {
            [(_, component, _)] => {
                [0, 1].map(|axis| (self.frame.size[axis] * component.sampling[axis]).div_ceil(8 * largest[axis]))
            }
            _ => [0, 1].map(|axis| self.frame.size[axis].div_ceil(8 * largest[axis])),
        }
    }

    /// Has each restart interval read: `read` is given its bits, and its units. Returns where the last one ends.
    ///
    /// # Errors
    /// Those of `read`; bits are left over; an interval is missing.
    pub fn intervals(
        &self,
        data: &'a [u8],
        mut read: impl FnMut(&mut Bits<'a>, std::ops::Range<usize>) -> Result<(), Damage>,
    ) -> Result<Option<usize>, Damage> {
        let [across, down] = self.units();
        let all = across * down;
        let length = if self.tables.interval == 0 { all } else { self.tables.interval };
        let (mut next, mut start) = (0, 0);
        for number in 0.. {
            let rest = &data[start..];
            let end = interval(rest);
            let mut bits = Bits::new(&rest[..end]);
            let until = (next + length).min(all);
            read(&mut bits, next..until)?;
            next = until;
            let left = &rest[bits.place()..end];
            let padding = self.is_last && next == all && left.iter().all(|byte| matches!(byte, 0 | 0xff));
            if !left.is_empty() && !padding {
                return Err(Damage::Left(left.len()));
            }
            // Bytes that fill up before a marker, and the marker.
            let fill = rest[end..].iter().take_while(|&&byte| byte == 0xff).count();
            let marker = rest.get(end + fill).copied();
            if next == all {
                // Some encoders end with a restart.
                let behind = rest.len().saturating_sub(end + fill + 1);
                return if behind == 0 { Ok(Some(start + bits.place())) } else { Err(Damage::Left(behind)) };
            }
            if marker != Some(0xd0 + (number % 8) as u8) {
                return Err(if marker.is_none() { Damage::Short } else { Damage::Restart });
            }
            start += end + fill + 1;
        }
        Ok(None)
    }

    /// Reads a scan of the sequential process.
    fn sequential(&self, data: &'a [u8]) -> Result<Option<usize>, Damage> {
        let single = self.scan.components.len() == 1;
        let mut blocks = Vec::new();
        for (place, (_, component, [dc, ac])) in self.scan.components.iter().enumerate() {
            let (Some(dc), Some(ac)) = (&self.tables.dc[*dc], &self.tables.ac[*ac]) else { return Ok(None) };
            let count = if single { 1 } else { component.sampling[0] * component.sampling[1] };
            let limits = self.tables.limits(component);
            blocks.extend(std::iter::repeat_n((place, dc, ac, limits, self.tables.step(component)), count));
        }
        self.intervals(data, |bits, units| {
            let mut last = [0i32; 4];
            for _ in units {
                for (place, dc, ac, limits, step) in &blocks {
                    let level = last.get_mut(*place).ok_or(Damage::Code)?;
                    *level += bits.difference(dc)?;
                    if too_large(*level, *step, 0) {
                        return Err(Damage::Range);
                    }
                    bits.rest_of_block(ac, limits)?;
                }
            }
            Ok(())
        })
    }
}

/// Whether no samples give a first coefficient of that many steps, of which so many bits are not sent yet.
pub fn too_large(level: i32, step: u32, unsent: u32) -> bool {
    // Levels are rounded down, also negative ones.
    level.unsigned_abs() > (most_steps(step) >> unsent) + u32::from(unsent > 0)
}

/// The most steps of quantisation that a coefficient has, rounded up at halves.
fn most_steps(step: u32) -> u32 {
    let step = step.max(1);
    (2 * MAX_MAGNITUDE + step) / (2 * step)
}
