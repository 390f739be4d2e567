//! A log in which any bytes are others is checked, dumped, and repaired to one that is sound; or
//! refused (P11, P14).
#![no_main]

use blk::Sector;
use fuzz::Image;
use libfuzzer_sys::fuzz_target;
use replog::tools;

thread_local! {
    static LOG: Vec<u8> = Image::of_log(&fuzz::crashed(&fuzz::topology())).0;
}

fuzz_target!(|input: &[u8]| {
    let mut image = Image(LOG.with(Clone::clone));
    image.spoil(input);
    let _ = tools::check(&mut image, Sector(0));
    let _ = tools::dump(&mut image, Sector(0), &mut |_| ());
    let Ok(repair) = tools::repair(&mut image, Sector(0)) else { return };
    for write in &repair.writes {
        image.write(write.sector, &write.bytes);
    }
    let again = tools::repair(&mut image, Sector(0)).expect("what was repaired is a log");
    assert_eq!(again.damage, None, "and a sound one, after {repair:?}");
});
