//! Reads the scans of the progressive process: ITU-T T.81, annex G.

use super::Damage;
use super::entropy::{Scan, Walk, too_large};
use super::huffman::{Bits, Limits, Table};
use super::markers::Frame;

/// What earlier scans sent.
pub struct Progress {
    /// For each component, blocks across, and for each block the coefficients that are not 0: a bit each, in zigzag order.
    known: Vec<(usize, Vec<u64>)>,
}

impl Progress {
    /// Nothing yet.
    pub fn new(frame: &Frame) -> Self {
        let blocks = frame.components.iter().map(|component| {
            let [across, down] = if frame.is_progressive() { frame.blocks(component) } else { [0, 0] };
            (across, vec![0; across * down])
        });
        Self { known: blocks.collect() }
    }

    /// Reads a scan, and says where its data end; not of one that libjpeg-turbo refuses.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn scan<'a>(&mut self, walk: &Walk<'a>, data: &'a [u8]) -> Result<Option<usize>, Damage> {
        match walk.scan {
            Scan { band: [0, 0], bits: [0, shift], .. } => first_levels(walk, data, *shift),
            Scan { band: [0, 0], .. } => {
                let per_unit: usize = blocks_of_unit(walk).map(|(_, count)| count).sum();
                walk.intervals(data, |bits, units| (0..units.len() * per_unit).try_for_each(|_| bits.number(1).map(drop)))
            }
            Scan { components, band: [start, end], bits: [before, shift] } if components.len() == 1 && *start > 0 => {
                let (number, component, [_, ac]) = components[0];
                let Some(table) = &walk.tables.ac[ac] else { return Ok(None) };
                let (stride, known) = &mut self.known[number];
                let limits = walk.tables.limits(component).map(|limit| limit.saturating_sub(*shift as u8));
                let band = Band { start: *start, end: *end, table, limits };
                let across = walk.units()[0];
                walk.intervals(data, |bits, units| {
                    let mut run = 0;
                    for unit in units {
                        let block = known.get_mut(unit / across * *stride + unit % across).ok_or(Damage::Code)?;
                        if *before == 0 { band.first(bits, &mut run, block)? } else { band.refine(bits, &mut run, block)? }
                    }
                    // A run of blocks ends with its interval.
                    if run == 0 { Ok(()) } else { Err(Damage::Run) }
                })
            }
            _ => Ok(None),
        }
    }
}

/// The places of the scan's components, and how many blocks of each a unit has.
fn blocks_of_unit<'a>(walk: &'a Walk<'_>) -> impl Iterator<Item = (usize, usize)> + 'a {
    let single = walk.scan.components.len() == 1;
    let count = move |sampling: [usize; 2]| if single { 1 } else { sampling[0] * sampling[1] };
    walk.scan.components.iter().enumerate().map(move |(place, (_, component, _))| (place, count(component.sampling)))
}

/// The first scan of each block's first coefficient.
fn first_levels<'a>(walk: &Walk<'a>, data: &'a [u8], shift: u32) -> Result<Option<usize>, Damage> {
    let mut blocks = Vec::new();
    for (place, count) in blocks_of_unit(walk) {
        let (_, component, [dc, _]) = walk.scan.components[place];
        let Some(table) = &walk.tables.dc[dc] else { return Ok(None) };
        blocks.extend(std::iter::repeat_n((place, table, walk.tables.step(component)), count));
    }
    walk.intervals(data, |bits, units| {
        let mut last = [0i32; 4];
        for _ in units {
            for (place, table, step) in &blocks {
                let level = last.get_mut(*place).ok_or(Damage::Code)?;
                *level += bits.difference(table)?;
                if too_large(*level, *step, shift) {
                    return Err(Damage::Range);
                }
            }
        }
        Ok(())
    })
}

/// A band of coefficients.
struct Band<'a> {
    start: usize,
    end: usize,
    table: &'a Table,
    /// The bits that each can have in this scan.
    limits: Limits,
}

impl Band<'_> {
    /// Reads what a symbol says that ends `1 << exponent` blocks and more.
    fn run(bits: &mut Bits<'_>, exponent: u32) -> Result<u32, Damage> {
        Ok((1 << exponent) + bits.number(exponent)?)
    }

    /// Reads a block's coefficients for the first time.
    fn first(&self, bits: &mut Bits<'_>, run: &mut u32, known: &mut u64) -> Result<(), Damage> {
        if *run > 0 {
            *run -= 1;
            return Ok(());
        }
        let mut at = self.start;
        while at <= self.end {
            let (code, _) = bits.code(self.table)?;
            let (zeros, size) = (code.run(), code.size());
            if size == 0 && zeros < 15 {
                *run = Self::run(bits, zeros)? - 1;
                return Ok(());
            }
            at += zeros as usize;
            if at > self.end {
                return Err(Damage::Run);
            }
            if size > u32::from(self.limits[at]) {
                return Err(Damage::Range);
            }
            *known |= u64::from(size > 0) << at;
            at += 1;
        }
        Ok(())
    }

    /// Reads one more bit of the coefficients that are not 0, and those that this bit makes so.
    fn refine(&self, bits: &mut Bits<'_>, run: &mut u32, known: &mut u64) -> Result<(), Damage> {
        let mut at = self.start;
        while *run == 0 && at <= self.end {
            let (code, _) = bits.code(self.table)?;
            let (mut zeros, size) = (code.run(), code.size());
            match size {
                0 if zeros < 15 => {
                    *run = Self::run(bits, zeros)?;
                    break;
                }
                0 | 1 => {}
                _ => return Err(Damage::Code),
            }
            loop {
                if at > self.end {
                    return Err(Damage::Run);
                }
                if *known >> at & 1 == 1 {
                    bits.number(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
            *known |= u64::from(size) << at;
            at += 1;
        }
        if *run > 0 {
            if at <= self.end {
                let rest = *known >> at & (u64::MAX >> (63 - (self.end - at)));
                let mut left = rest.count_ones();
                while left > 0 {
                    let some = left.min(16);
                    bits.number(some)?;
                    left -= some;
                }
            }
            *run -= 1;
        }
        Ok(())
    }
}
