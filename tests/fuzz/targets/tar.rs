//! Shards of images, plain and packed. Of headers, the check sum is put right: a fuzzer finds none.

#![no_main]

use std::io::Write as _;

use tessera_datasets::formats::{Format, Options};
use tessera_datasets::tar::Ids;
use tessera_fuzz::{Memory, images};

const BLOCK: usize = 512;

/// With the right check sum in all blocks that say what they are.
fn summed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

tessera_fuzz::fuzz!(|data| {
    let Some((how, data)) = data.split_first() else { return };
    let ids = if how & 8 == 0 { Ids::Name } else { Ids::Path };
    let (name, bytes) = match how % 5 {
        0 => ("a.tar", summed(data)),
        1 => ("a.tar.gz", data.to_vec()),
        2 => ("a.tar.zst", data.to_vec()),
        3 => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            packed.write_all(&summed(data)).expect("memory takes all");
            ("a.tgz", packed.finish().expect("memory takes all"))
        }
        _ => ("a.tar", data.to_vec()),
    };
    images(&Memory::new([(name, &*bytes)]), Format::WebDataset, "", &Options { ids, ..Options::default() });
});
