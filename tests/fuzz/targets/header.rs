//! What the first bytes of image files say.

#![no_main]

use tessera_datasets::header::{FORMATS, Header, copy};

tessera_fuzz::fuzz!(|data| {
    let header = Header::of(data);
    assert!(header.format.is_none_or(|format| FORMATS.contains(&format)));
    assert!(header.format.is_some() || header == Header::default());
    assert!(header.width != Some(0) && header.height != Some(0));
    // A file that is longer says the same, unless its end was asked for.
    let mut asked = false;
    let again = Header::read(&mut |offset, buffer| {
        let found = copy(data, offset, buffer);
        asked |= !found;
        found
    });
    assert_eq!(again, header);
    if !asked {
        let longer: Vec<u8> = data.iter().copied().chain([0xff; 64]).collect();
        assert_eq!(Header::of(&longer), header);
    }
});
