//! Histories made by hand, legal and illegal: the oracle proven without an engine.

use blk::{DevNr, Sector, Sectors, SlinkNr, Time};
use smallvec::smallvec;

use super::*;

mod views;

const REMOTE: usize = 0;
const Z: Content = Content::ZEROES;

/// Two devices of four sectors and one remote site.
fn oracle() -> Oracle {
    oracle_with(rule())
}

fn oracle_with(rule: SiteRule) -> Oracle {
    Oracle::new(Layout::new(&[Sectors(4), Sectors(4)]), &[rule], &[vec![Z; 8]], Sectors(20))
}

fn rule() -> SiteRule {
    let policy = Policy { sync: false, stall: false, on_limit: None, on_down: None };
    SiteRule {
        nr: SlinkNr(1),
        named: true,
        ordered: true,
        policy,
        limit: None,
        order: Order::Group,
        devices: vec![true; 2],
    }
}

fn sync_rule() -> SiteRule {
    SiteRule { policy: Policy { sync: true, ..rule().policy }, ..rule() }
}

/// A write that the log has taken in.
#[derive(Clone, Copy, Debug)]
struct Logged {
    token: Token,
    nr: Nr,
    content: Content,
}

/// Submits a write and has the log take it in, durably.
fn submit(oracle: &mut Oracle, at: usize) -> Logged {
    submit_as(oracle, at, None)
}

fn submit_as(oracle: &mut Oracle, at: usize, content: Option<Content>) -> Logged {
    let Place { dev, sector } = oracle.layout().place(at);
    let len = Sectors(1);
    let (token, content) = oracle.submitted(dev, sector, len, content);
    oracle.admitted(&[Admission { dev, sector, len, content }], len).unwrap();
    oracle.logged(dev, sector, content);
    Logged { token, nr: oracle.history.last(), content }
}

fn acked_write(oracle: &mut Oracle, at: usize) -> Logged {
    let write = submit(oracle, at);
    oracle.acked(write.token, false, Time(0)).unwrap();
    write
}

fn acked_discard(oracle: &mut Oracle, at: usize) {
    let write = submit_as(oracle, at, Some(Z));
    oracle.acked(write.token, false, Time(0)).unwrap();
}

fn show(oracle: &mut Oracle, at: usize, values: &[Content]) -> Result<(), Violation> {
    oracle.changed(REMOTE, at..at + 1, |_| values.into())
}

/// What the devices read as when sector `at` holds `content` and all else is zero.
fn image(cells: &[(usize, Logged)]) -> Vec<Content> {
    let mut shown = vec![Z; 8];
    for &(at, write) in cells {
        shown[at] = write.content;
    }
    shown
}

#[test]
fn a_site_may_lack_any_of_the_writes_that_were_under_way_together() {
    let mut oracle = oracle();
    let (a, b) = (submit(&mut oracle, 0), submit(&mut oracle, 4));
    oracle.acked(a.token, false, Time(0)).unwrap();
    oracle.acked(b.token, false, Time(0)).unwrap();
    assert_eq!(show(&mut oracle, 4, &[Z, b.content]), Ok(()));
    assert_eq!(show(&mut oracle, 0, &[a.content]), Ok(()));
}

#[test]
fn a_site_that_shows_a_write_has_all_that_was_acknowledged_before_it_on_any_device() {
    let mut oracle = oracle();
    let a = acked_write(&mut oracle, 0);
    let b = acked_write(&mut oracle, 4);
    let seen = show(&mut oracle, 4, &[Z, b.content]);
    assert!(
        matches!(seen, Err(Violation::Order { shown, lacking, .. }) if (shown, lacking) == (b.nr, a.nr)),
        "{seen:?}"
    );
}

#[test]
fn a_write_that_is_only_cached_at_a_site_counts_as_lacking() {
    let mut oracle = oracle();
    let a = acked_write(&mut oracle, 0);
    let b = acked_write(&mut oracle, 4);
    show(&mut oracle, 0, &[Z, a.content]).unwrap();
    assert!(matches!(show(&mut oracle, 4, &[Z, b.content]), Err(Violation::Order { .. })));
}

#[test]
fn a_durable_predecessor_makes_the_next_write_legal() {
    let mut oracle = oracle();
    let a = acked_write(&mut oracle, 0);
    let b = acked_write(&mut oracle, 4);
    show(&mut oracle, 0, &[a.content]).unwrap();
    assert_eq!(show(&mut oracle, 4, &[Z, b.content]), Ok(()));
}

#[test]
fn a_lacking_write_becomes_a_violation_at_an_acknowledgement() {
    let mut oracle = oracle();
    let a = submit(&mut oracle, 0);
    let b = submit(&mut oracle, 4);
    show(&mut oracle, 4, &[Z, b.content]).unwrap();
    oracle.acked(a.token, false, Time(0)).unwrap();
    let c = submit(&mut oracle, 5);
    assert!(matches!(show(&mut oracle, 5, &[Z, c.content]), Err(Violation::Order { .. })));
}

#[test]
fn an_overwritten_version_need_not_be_seen() {
    let mut oracle = oracle();
    acked_write(&mut oracle, 0);
    let newer = acked_write(&mut oracle, 0);
    let other = acked_write(&mut oracle, 4);
    show(&mut oracle, 0, &[newer.content]).unwrap();
    assert_eq!(show(&mut oracle, 4, &[other.content]), Ok(()));
}

#[test]
fn zeroes_take_whichever_reading_is_legal() {
    let mut oracle = oracle();
    acked_write(&mut oracle, 0);
    acked_discard(&mut oracle, 0);
    let other = acked_write(&mut oracle, 4);
    // Sector 0 shows zeroes: as the discard they are newer than the lost first write.
    assert_eq!(show(&mut oracle, 4, &[other.content]), Ok(()));
}

#[test]
fn two_readings_with_a_gap_must_meet_the_other_sectors_outside_the_gap() {
    let mut oracle = oracle();
    let first = acked_write(&mut oracle, 0);
    let shown = acked_write(&mut oracle, 4);
    acked_write(&mut oracle, 5);
    acked_discard(&mut oracle, 0);
    // Sector 5 lacks its write. Zeroes in sector 0 are either older than `first`, but
    // `shown` is there, or newer than the write that sector 5 lacks.
    oracle.changed(REMOTE, 0..1, |_| smallvec![first.content]).unwrap();
    show(&mut oracle, 4, &[shown.content]).unwrap();
    let seen = show(&mut oracle, 0, &[first.content, Z]);
    assert!(matches!(seen, Err(Violation::Order { .. })), "{seen:?}");
}

#[test]
fn a_write_issued_again_after_a_crash_has_two_readings() {
    let mut oracle = oracle();
    let first = submit(&mut oracle, 0);
    oracle.recovered(Nr(0), false, &image(&[(0, first)])).unwrap();
    let again = submit_as(&mut oracle, 0, Some(first.content));
    oracle.acked(again.token, false, Time(0)).unwrap();
    assert_eq!(show(&mut oracle, 0, &[Z, first.content]), Ok(()));
    assert_eq!(oracle.shipped(REMOTE, 0, first.content), Ok(()));
}

#[test]
fn what_is_not_durable_in_the_log_is_not_shipped() {
    let mut oracle = oracle();
    let (dev, sector, len) = (DevNr(0), Sector(0), Sectors(1));
    let (_, content) = oracle.submitted(dev, sector, len, None);
    oracle.admitted(&[Admission { dev, sector, len, content }], len).unwrap();
    assert!(matches!(oracle.shipped(REMOTE, 0, content), Err(Violation::AheadOfLog { .. })));
    oracle.logged(dev, sector, content);
    assert_eq!(oracle.shipped(REMOTE, 0, content), Ok(()));
}

#[test]
fn a_site_is_not_fed_older_data_than_it_may_hold() {
    let mut oracle = oracle();
    let old = acked_write(&mut oracle, 0);
    let new = acked_write(&mut oracle, 0);
    show(&mut oracle, 0, &[old.content, new.content]).unwrap();
    assert_eq!(oracle.shipped(REMOTE, 0, new.content), Ok(()));
    assert!(matches!(oracle.shipped(REMOTE, 0, old.content), Err(Violation::Rewind { .. })));
    oracle.reported(&[View { consistent: false, ..views::WELL }]).unwrap();
    assert_eq!(oracle.shipped(REMOTE, 0, old.content), Ok(()), "nothing is promised");
}

#[test]
fn a_kill_loses_no_acknowledged_write() {
    let mut oracle = oracle();
    let acked = acked_write(&mut oracle, 0);
    let required = oracle.required(Death::Kill);
    let lost = oracle.clone().recovered(required, false, &image(&[]));
    assert_eq!(lost, Err(Violation::Lost { promised: acked.nr, head: Nr(0) }));
    assert_eq!(oracle.recovered(required, false, &image(&[(0, acked)])), Ok(acked.nr));
}

#[test]
fn without_a_log_a_kill_loses_what_no_flush_covered_only_where_a_local_cache_was_lost() {
    let mut oracle = oracle();
    oracle.log_is_lost();
    let flushed = acked_write(&mut oracle, 0);
    let flush = oracle.flush_submitted();
    oracle.flush_acked(flush).unwrap();
    let cached = acked_write(&mut oracle, 4);
    let required = oracle.required(Death::Kill);
    let recovered =
        |oracle: &Oracle, left: &[_]| oracle.clone().recovered(required, false, &image(left));
    let lost = |write: Logged| Err(Violation::Lost { promised: write.nr, head: Nr(0) });
    assert_eq!(recovered(&oracle, &[(0, flushed)]), lost(cached));
    for at in 0..4 {
        oracle.cache_is_lost(DevNr(1), Sector(at), Z);
    }
    assert!(recovered(&oracle, &[(0, flushed)]).is_ok());
    assert_eq!(recovered(&oracle, &[(4, cached)]), lost(flushed));
    for at in 0..4 {
        oracle.cache_is_lost(DevNr(0), Sector(at), Z);
    }
    assert_eq!(recovered(&oracle, &[(4, cached)]), lost(flushed), "that was on its media");
}

#[test]
fn a_power_cut_loses_nothing_that_a_flush_or_fua_covered() {
    let mut oracle = oracle();
    acked_write(&mut oracle, 0);
    assert_eq!(oracle.required(Death::PowerCut), Nr(0));
    let flush = oracle.flush_submitted();
    let later = acked_write(&mut oracle, 1);
    oracle.flush_acked(flush).unwrap();
    assert_eq!(oracle.required(Death::PowerCut), Nr(1), "{later:?} came after the flush");
    let fua = submit(&mut oracle, 2);
    oracle.acked(fua.token, true, Time(0)).unwrap();
    assert_eq!(oracle.required(Death::PowerCut), fua.nr);
}

#[test]
fn a_recovery_shows_a_prefix_or_is_refused() {
    let mut oracle = oracle();
    let (a, b) = (submit(&mut oracle, 0), submit(&mut oracle, 4));
    let holed = oracle.clone().recovered(Nr(0), false, &image(&[(4, b)]));
    assert!(matches!(holed, Err(Violation::NotAPrefix { .. })), "{holed:?}");
    assert_eq!(oracle.clone().recovered(Nr(0), false, &image(&[(0, a)])), Ok(a.nr));
    assert_eq!(oracle.recovered(Nr(0), false, &image(&[(0, a), (4, b)])), Ok(b.nr));
}

#[test]
fn what_recovery_lost_must_not_show_anywhere_again() {
    let mut oracle = oracle();
    let dead = submit(&mut oracle, 0);
    show(&mut oracle, 0, &[Z, dead.content]).unwrap();
    let seen = oracle.recovered(Nr(0), false, &image(&[]));
    assert!(matches!(seen, Err(Violation::Phantom { .. })), "{seen:?}");
}

#[test]
fn what_survived_a_recovery_counts_as_acknowledged() {
    let mut oracle = oracle();
    let survivor = submit(&mut oracle, 0);
    oracle.recovered(Nr(0), false, &image(&[(0, survivor)])).unwrap();
    assert_eq!(oracle.required(Death::Kill), survivor.nr);
    let next = acked_write(&mut oracle, 4);
    assert!(matches!(show(&mut oracle, 4, &[next.content]), Err(Violation::Order { .. })));
}

#[test]
fn a_read_shows_at_least_what_was_acknowledged_before_it() {
    let mut oracle = oracle();
    let (old, new) = (acked_write(&mut oracle, 0), acked_write(&mut oracle, 0));
    let read = oracle.read_submitted(0..1);
    let stale = oracle.clone().read(&read, &[old.content]);
    assert!(matches!(stale, Err(Violation::StaleRead { .. })), "{stale:?}");
    assert_eq!(oracle.read(&read, &[new.content]), Ok(()));
}

#[test]
fn a_read_beside_a_write_may_show_either_and_later_reads_never_go_back() {
    let mut oracle = oracle();
    let old = acked_write(&mut oracle, 0);
    let new = submit(&mut oracle, 0);
    let reads = [(); 3].map(|()| oracle.read_submitted(0..1));
    assert_eq!(oracle.read(&reads[0], &[old.content]), Ok(()));
    assert_eq!(oracle.read(&reads[1], &[new.content]), Ok(()));
    assert_eq!(oracle.read(&reads[2], &[old.content]), Ok(()), "submitted before the other ended");
    let later = oracle.read_submitted(0..1);
    assert!(matches!(oracle.read(&later, &[old.content]), Err(Violation::StaleRead { .. })));
}

#[test]
fn a_read_of_a_discarded_sector_shows_zeroes_only() {
    let mut oracle = oracle();
    let old = acked_write(&mut oracle, 0);
    acked_discard(&mut oracle, 0);
    let read = oracle.read_submitted(0..1);
    let stale = oracle.clone().read(&read, &[old.content]);
    assert!(matches!(stale, Err(Violation::StaleRead { .. })), "{stale:?}");
    assert_eq!(oracle.read(&read, &[Z]), Ok(()));
}

#[test]
fn a_sync_site_has_every_acknowledged_write_on_its_media() {
    let mut oracle = oracle_with(sync_rule());
    let a = submit(&mut oracle, 0);
    show(&mut oracle, 0, &[Z, a.content]).unwrap();
    assert!(matches!(oracle.acked(a.token, false, Time(0)), Err(Violation::SyncAck { .. })));
    let b = submit(&mut oracle, 1);
    show(&mut oracle, 1, &[b.content]).unwrap();
    show(&mut oracle, 0, &[a.content]).unwrap();
    assert_eq!(oracle.acked(b.token, false, Time(0)), Ok(()));
    assert_eq!(oracle.required(Death::PowerCut), b.nr);
}

/// One thing that may happen in a random history; three sectors, each a device's.
fn random_step(oracle: &mut Oracle, open: &mut Vec<Nr>, rng: &mut crate::rng::Rng) {
    if !open.is_empty() && rng.chance(50) {
        let nr = open.swap_remove(rng.index(open.len()));
        let now = oracle.tick();
        oracle.history.ack(nr, false, now);
        return;
    }
    let content = rng.chance(40).then_some(Z);
    open.push(submit_as(oracle, rng.index(3), content).nr);
}

/// The definition, word by word: is there a reading of this image in which nothing is
/// shown that was submitted after something lacking was acknowledged?
fn is_legal(history: &History, image: &[(usize, Content)]) -> bool {
    fn legal_with(history: &History, image: &[(usize, Content)], read: &mut Vec<Nr>) -> bool {
        let Some(&(at, content)) = image.get(read.len()) else { return fits(history, image, read) };
        history.readings(at, content).any(|nr| {
            read.push(nr);
            let legal = legal_with(history, image, read);
            read.pop();
            legal
        })
    }
    fn fits(history: &History, image: &[(usize, Content)], read: &[Nr]) -> bool {
        let lacking = |&(at, _): &(usize, Content), nr| {
            history.of(at).iter().copied().filter(move |&other| other > nr)
        };
        let mut lacked = image.iter().zip(read).flat_map(|(cell, &nr)| lacking(cell, nr));
        lacked.all(|lack| {
            let acked = history.write(lack).acked;
            read.iter().all(|&shown| history.write(shown).submitted <= acked)
        })
    }
    legal_with(history, image, &mut Vec::new())
}

#[test]
fn the_check_agrees_with_trying_every_crash_image_and_every_reading() {
    let mut verdicts = [0; 2];
    for seed in 0..20_000 {
        let mut rng = crate::rng::Rng::new(seed);
        let (mut oracle, mut open) = (oracle(), Vec::new());
        for _ in 0..rng.range(1, 14) {
            random_step(&mut oracle, &mut open, &mut rng);
        }
        let history = oracle.history.clone();
        let values: Vec<Vec<Content>> = (0..3)
            .map(|at| {
                let any =
                    |rng: &mut crate::rng::Rng| history.write(*rng.pick(history.of(at))).content;
                (0..rng.range(1, 2)).map(|_| any(&mut rng)).collect()
            })
            .collect();
        let mut images = vec![vec![]];
        for (at, values) in values.iter().enumerate() {
            images = images
                .iter()
                .flat_map(|image: &Vec<(usize, Content)>| {
                    values.iter().map(move |&v| [&image[..], &[(at, v)]].concat())
                })
                .collect();
        }
        let legal = images.iter().all(|image| is_legal(&history, image));
        let mut site = Site::new(SlinkNr(1), Order::Group, &[Z; 8], &history);
        for at in 0..8 {
            site.show(at, values.get(at).map_or(smallvec![Z], |v| Values::from_slice(v)));
            site.refresh(at, &history, &oracle.layout).unwrap();
        }
        let checked = site.check(&history, &oracle.layout);
        assert_eq!(checked.is_ok(), legal, "seed {seed}: {checked:?}");
        verdicts[usize::from(legal)] += 1;
    }
    assert!(verdicts.iter().all(|&count| count > 1000), "both verdicts are tried: {verdicts:?}");
}

#[test]
fn an_acknowledgement_of_what_the_log_never_took_in_is_refused() {
    let mut oracle = oracle();
    let (token, _) = oracle.submitted(DevNr(0), Sector(0), Sectors(1), None);
    assert_eq!(oracle.acked(token, false, Time(0)), Err(Violation::AckBeforeLog));
}

#[test]
fn a_log_that_takes_in_what_nobody_wrote_is_refused() {
    let mut oracle = oracle();
    oracle.submitted(DevNr(0), Sector(0), Sectors(1), None);
    let (dev, sector, len) = (DevNr(1), Sector(0), Sectors(1));
    let refused = oracle.admitted(&[Admission { dev, sector, len, content: Content(1) }], len);
    assert!(matches!(refused, Err(Violation::UnknownEntry { .. })));
}

#[test]
fn writes_are_numbered_as_the_log_takes_them_in_not_as_they_came() {
    let mut oracle = oracle();
    let (dev, len) = (DevNr(0), Sectors(1));
    let mut submit = |sector| oracle.submitted(dev, Sector(sector), len, None).1;
    let (first, second) = (submit(0), submit(1));
    let admission = |sector, content| Admission { dev, sector: Sector(sector), len, content };
    oracle.admitted(&[admission(1, second), admission(0, first)], len).unwrap();
    let mut shown = image(&[]);
    shown[0] = first;
    let holed = oracle.clone().recovered(Nr(0), false, &shown);
    assert!(matches!(holed, Err(Violation::NotAPrefix { .. })), "the second one came first");
    shown = image(&[]);
    shown[1] = second;
    assert_eq!(oracle.recovered(Nr(0), false, &shown), Ok(Nr(1)));
}

#[test]
fn zeroes_may_stem_from_a_discard_as_soon_as_the_log_has_it() {
    let mut oracle = oracle();
    acked_write(&mut oracle, 0);
    submit_as(&mut oracle, 0, Some(Z));
    let other = submit(&mut oracle, 4);
    // Sector 0 lacks its write, or has the discard, which nobody has acknowledged yet.
    assert_eq!(show(&mut oracle, 4, &[other.content]), Ok(()));
}

#[test]
fn a_read_that_takes_long_may_return_what_many_writes_have_hidden_since() {
    let mut oracle = oracle();
    let old = acked_write(&mut oracle, 0);
    show(&mut oracle, 0, &[old.content]).unwrap();
    let read = oracle.read_submitted(0..1);
    for _ in 0..100 {
        let newer = acked_write(&mut oracle, 0);
        show(&mut oracle, 0, &[newer.content]).unwrap();
    }
    assert_eq!(oracle.read(&read, &[old.content]), Ok(()));
    acked_write(&mut oracle, 0);
    assert!(oracle.history.of(0).len() < 30, "what the ring does not hold is forgotten");
}
