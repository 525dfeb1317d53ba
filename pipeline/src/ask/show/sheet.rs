//! Sheets: cells of one size in rows, and how large a picture they make, before any of it is drawn.

use anyhow::{Result, bail};

use super::canvas::Canvas;

/// Pixels between images.
pub const GAP: usize = 6;
/// Pixels of a picture: what is drawn has three bytes for each, and the images on it have as many at most.
pub const MOST_PIXELS: usize = 1 << 28;

/// A sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheet {
    /// Cells in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Pixels of a cell, from top to bottom.
    pub height: usize,
    /// Pixels of a cell, from left to right.
    pub width: usize,
    /// Pixels before the first cell of a row.
    pub margin: usize,
}

impl Sheet {
    /// Of so many cells, about as wide as high.
    pub fn square(count: usize, (height, width): (usize, usize)) -> Self {
        let ratio = height as f64 / width as f64;
        let columns = ((count as f64 * ratio).sqrt().ceil() as usize).clamp(1, count.max(1));
        Self { columns, rows: count.max(1).div_ceil(columns), height, width, margin: 0 }
    }

    /// Pixels from left to right, and from top to bottom.
    pub fn size(&self) -> (usize, usize) {
        let of = |cells: usize, side: usize| cells.saturating_mul(side + GAP).saturating_add(GAP);
        (of(self.columns, self.width).saturating_add(self.margin), of(self.rows, self.height))
    }

    /// Makes sure that a picture of it can be drawn, of at most so many pixels a side.
    ///
    /// # Errors
    /// It is larger than anybody could look at, or than the picture's format allows.
    pub fn check(&self, most_side: Option<usize>) -> Result<()> {
        let (across, down) = self.size();
        let would = format!(
            "{} x {} images of {} x {} pixels would make a picture of {across} x {down}",
            self.columns, self.rows, self.width, self.height
        );
        if across.saturating_mul(down) > MOST_PIXELS {
            bail!("{would}, and {MOST_PIXELS} pixels are the most: ask for fewer by -n");
        }
        if let Some(most) = most_side.filter(|&most| across.max(down) > most) {
            bail!("{would}, and such a file has at most {most} pixels a side: write a .png, or ask for fewer by -n");
        }
        Ok(())
    }

    /// The upper left corner of a cell, by its number.
    pub fn place(&self, at: usize) -> (usize, usize) {
        let (row, column) = (at / self.columns, at % self.columns);
        (self.margin + GAP + column * (self.width + GAP), GAP + row * (self.height + GAP))
    }

    /// An empty picture of it.
    pub fn canvas(&self) -> Canvas {
        let (across, down) = self.size();
        Canvas::new(across, down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_are_about_square() {
        let sheet = Sheet::square(10, (20, 10));
        assert_eq!((sheet.columns, sheet.rows), (5, 2));
        assert_eq!(sheet.size(), (5 * 16 + 6, 2 * 26 + 6));
        assert_eq!((sheet.place(0), sheet.place(6)), ((6, 6), (22, 32)));
        assert_eq!(Sheet::square(0, (8, 8)), Sheet { columns: 1, rows: 1, height: 8, width: 8, margin: 0 });
    }

    /// Known before anything is read or drawn, whatever sizes a table claims.
    #[test]
    fn a_sheet_has_bounds() {
        let clusters = Sheet { columns: 1000, rows: 40, height: 255, width: 255, margin: 30 };
        let said = clusters.check(None).unwrap_err().to_string();
        assert!(
            said.starts_with("1000 x 40 images of 255 x 255 pixels would make a picture of 261036 x 10446, and 268435456 "),
            "{said}"
        );
        assert!(Sheet::square(usize::from(u16::MAX), (1 << 31, 1 << 31)).check(None).is_err());
        let wide = Sheet { columns: 1000, rows: 1, height: 64, width: 64, margin: 0 };
        assert!(wide.check(None).is_ok());
        let said = wide.check(Some(65_535)).unwrap_err().to_string();
        assert!(said.ends_with("at most 65535 pixels a side: write a .png, or ask for fewer by -n"), "{said}");
    }
}
