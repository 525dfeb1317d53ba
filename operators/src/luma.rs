//! The gray of a colour, as Pillow's `convert("L")` has it.

/// A pixel's gray: ITU-R 601-2, in Pillow's fixed point.
pub fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}

/// Takes the colours of `N x 3` bytes away, in place: each pixel becomes three times its gray.
pub fn take_colours(pixels: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    pixels.iter_mut().for_each(|pixel| *pixel = [luma(*pixel); 3]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grays_are_pillows() {
        assert_eq!(luma([255, 255, 255]), 255);
        assert_eq!(luma([10, 100, 200]), 84);
        let mut pixels = [10, 100, 200, 0, 0, 1];
        take_colours(&mut pixels);
        assert_eq!(pixels, [84, 84, 84, 0, 0, 0]);
    }
}
