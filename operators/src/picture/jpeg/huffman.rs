//! Huffman codes of JPEG (ITU-T T.81, annexes C and F) and the bits that they are read from.

use super::Damage;

/// Codes up to that length are found by one look-up.
const SHORT: u32 = 9;
/// How far the end of a block is away, as [`Code::advance`] counts: further than any run.
const END: u32 = 80;
/// The bits that a coefficient can have, by its place in zigzag order; none behind the 64th.
pub type Limits = [u8; 256];

/// A code that was read, in one word: the look-up of it is what takes time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Code(u32);

impl Code {
    /// Where a look-up finds no code: longer than any.
    const NONE: Self = Self(0xff);

    fn new(length: u32, symbol: u8) -> Self {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        let advance = if size == 0 && run < 15 { END } else { run + 1 };
        Self((length + size) | size << 8 | run << 16 | advance << 24)
    }

    /// Bits of the code and of the number behind it.
    fn total(self) -> u32 {
        self.0 & 0xff
    }

    /// Bits of the number behind it.
    pub fn size(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    /// Coefficients that are 0 before the one that it stands for.
    pub fn run(self) -> u32 {
        self.0 >> 16 & 0xff
    }

    /// The run, and the coefficient behind it; [`END`] for the end of a block.
    fn advance(self) -> u32 {
        self.0 >> 24
    }
}

/// The codes of one table.
#[derive(Debug, Clone)]
pub struct Table {
    /// By the next [`SHORT`] bits.
    short: Box<[Code; 1 << SHORT]>,
    /// Behind the last code of each length, as 16 bits.
    ends: [u32; 17],
    /// What to add to a code of that length to get the place of its symbol.
    places: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// The table with that many codes of 1 to 16 bits. None if these are not a prefix code, or symbols are missing.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let (mut short, mut ends, mut places) = (Box::new([Code::NONE; 1 << SHORT]), [0; 17], [0; 17]);
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            places[length as usize] = place as i32 - code as i32;
            for &symbol in symbols.get(place..place + count)? {
                if code >> length != 0 {
                    return None;
                }
                if length <= SHORT {
                    let first = (code << (SHORT - length)) as usize;
                    short[first..first + (1 << (SHORT - length))].fill(Code::new(length, symbol));
                }
                code += 1;
            }
            place += count;
            ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(Self { short, ends, places, symbols: symbols[..place].to_vec() })
    }
}

/// The bits of one stretch of entropy-coded data: up to a marker, and without the zero that follows each 0xff.
#[derive(Debug, Clone, Copy)]
pub struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, highest first. Behind the `count`th they may be those that follow, or zeros.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// Starts at the first byte. Every 0xff in `data` is followed by 0.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, count: 0 }
    }

    /// Fills the buffer to 56 bits or more, if there are so many.
    #[inline(always)]
    fn refill(&mut self) {
        if let Some(eight) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*eight);
            // Whether a byte is 0xff: a zero byte of the complement.
            let full = (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080;
            if full == 0 && self.count < 56 {
                self.buffer |= word >> self.count;
                self.at += ((63 - self.count) >> 3) as usize;
                self.count |= 56;
                return;
            }
        }
        self.refill_bytes();
    }

    #[inline(never)]
    fn refill_bytes(&mut self) {
        // The other way leaves bits in the buffer that it does not count.
        self.buffer &= !(u64::MAX.checked_shr(self.count).unwrap_or(0));
        while self.count <= 56 {
            let Some(&byte) = self.data.get(self.at) else { break };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.at += if byte == 0xff { 2 } else { 1 };
        }
    }

    /// Finds the next code where a look-up found none within the bits that count.
    #[cold]
    #[inline(never)]
    fn find(&mut self, table: &Table) -> Result<Code, Damage> {
        self.refill();
        let mut code = table.short[(self.buffer >> (64 - SHORT)) as usize];
        if code == Code::NONE {
            let next = (self.buffer >> 48) as u32;
            let length = (SHORT as usize + 1..=16).find(|&length| next < table.ends[length]);
            let symbol = length.and_then(|length| {
                let place = (next >> (16 - length)) as i32 + table.places[length];
                table.symbols.get(usize::try_from(place).ok()?)
            });
            match (length, symbol) {
                (Some(length), Some(&symbol)) => code = Code::new(length as u32, symbol),
                _ if self.count < 16 => return Err(Damage::Short),
                _ => return Err(Damage::Code),
            }
        }
        if code.total() > self.count { Err(Damage::Short) } else { Ok(code) }
    }

    /// Reads a code, and the number behind it.
    ///
    /// # Errors
    /// The data end, or no code begins like that.
    #[inline(always)]
    pub fn code(&mut self, table: &Table) -> Result<(Code, u32), Damage> {
        if self.count < 32 {
            self.refill();
        }
        let mut code = table.short[(self.buffer >> (64 - SHORT)) as usize];
        // A code that lies within the bits that count was found by these alone.
        if code.total() > self.count {
            code = self.find(table)?;
        }
        let (total, size) = (code.total(), code.size());
        // In two steps, since a shift by 64 is none.
        let number = (self.buffer << (total - size) >> 1 >> (63 - size)) as u32;
        self.buffer <<= total;
        self.count -= total;
        Ok((code, number))
    }

    /// Reads how much a block's first coefficient differs from the last block's.
    ///
    /// # Errors
    /// Those of [`code`](Self::code).
    #[inline(always)]
    pub fn difference(&mut self, table: &Table) -> Result<i32, Damage> {
        let (code, number) = self.code(table)?;
        // A number that begins with 0 is a negative one.
        let negative = code.size() > 0 && number >> (code.size() - 1) == 0;
        Ok(number as i32 - if negative { (1 << code.size()) - 1 } else { 0 })
    }

    /// Reads the coefficients of a sequential block behind its first. `limits` has the bits that each may have, by its place.
    ///
    /// # Errors
    /// The data end, no code begins like that, or a coefficient lies behind the block or is too large.
    #[inline(always)]
    pub fn rest_of_block(&mut self, table: &Table, limits: &Limits) -> Result<(), Damage> {
        self.refill();
        // Two variables, and not the fields, since those would be written to memory at every code.
        let (mut buffer, mut count) = (self.buffer, self.count);
        let mut at = 0;
        while at < 63 {
            let mut code = table.short[(buffer >> (64 - SHORT)) as usize];
            if code.total() > count {
                (self.buffer, self.count) = (buffer, count);
                code = self.find(table)?;
                (buffer, count) = (self.buffer, self.count);
            }
            buffer <<= code.total();
            count -= code.total();
            at += code.advance();
            if code.size() > u32::from(limits[at as usize & 0xff]) {
                return Err(if at < 64 { Damage::Range } else { Damage::Run });
            }
        }
        (self.buffer, self.count) = (buffer, count);
        // Sixteen zeros that go beyond the last.
        if (64..END).contains(&at) { Err(Damage::Run) } else { Ok(()) }
    }

    /// Reads up to 16 bits as a number.
    ///
    /// # Errors
    /// The data end.
    #[inline(always)]
    pub fn number(&mut self, bits: u32) -> Result<u32, Damage> {
        if bits > self.count {
            self.refill();
            if bits > self.count {
                return Err(Damage::Short);
            }
        }
        let number = (self.buffer >> 1 >> (63 - bits)) as u32;
        self.buffer <<= bits;
        self.count -= bits;
        Ok(number)
    }

    /// Where the bytes begin of which no bit was read.
    pub fn place(&self) -> usize {
        let mut place = self.at.min(self.data.len());
        for _ in 0..self.count / 8 {
            let stuffed = self.data[..place].ends_with(&[0xff, 0]);
            place -= if stuffed { 2 } else { 1 };
        }
        place
    }
}
