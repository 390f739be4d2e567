//! What a machine says of its sites, and what a table does.

use slink::State;

use super::*;

pub(super) const WELL: View = View {
    found_detached: false,
    state: State::Streaming,
    consistent: true,
    in_force: true,
    demoted: false,
    detached: false,
    dirty_bytes: 0,
    lag_writes: 0,
};

/// Shows one write that was acknowledged and not the one before it.
fn out_of_order(oracle: &mut Oracle) -> Result<(), Violation> {
    acked_write(oracle, 0);
    let second = acked_write(oracle, 4);
    show(oracle, 4, &[second.content])
}

#[test]
fn a_site_that_is_said_to_be_inconsistent_may_be_out_of_order_until_it_is_not() {
    let mut oracle = oracle();
    oracle.reported(&[View { consistent: false, ..WELL }]).unwrap();
    assert_eq!(out_of_order(&mut oracle), Ok(()));
    let said = oracle.reported(&[WELL]);
    assert!(matches!(said, Err(Violation::Order { .. })), "{said:?}");
}

#[test]
fn an_inconsistent_site_shows_nothing_that_no_write_wrote() {
    let mut oracle = oracle();
    oracle.reported(&[View { consistent: false, ..WELL }]).unwrap();
    let seen = show(&mut oracle, 0, &[Content(77)]);
    assert!(matches!(seen, Err(Violation::Phantom { .. })), "{seen:?}");
}

#[test]
fn a_site_that_was_never_copied_to_may_hold_what_it_did_until_it_is_said_to_be_consistent() {
    let initial = [vec![Z; 8], vec![Content::initial(1); 8]];
    let local = SiteRule { nr: SlinkNr(0), ordered: false, ..rule() };
    let layout = Layout::new(&[Sectors(4), Sectors(4)]);
    let mut oracle = Oracle::new(layout, &[local, rule()], &initial, Sectors(20));
    oracle.changed(1, 0..1, |_| smallvec![Content::initial(1)]).unwrap();
    let said = oracle.reported(&[WELL, WELL]);
    assert!(matches!(said, Err(Violation::Unsynced { .. })), "{said:?}");
}

#[test]
fn a_replaced_disk_is_not_what_was_promised_until_it_is_written_to() {
    let mut oracle = oracle();
    let lost = acked_write(&mut oracle, 0);
    show(&mut oracle, 0, &[lost.content]).unwrap();
    oracle.reported(&[WELL]).unwrap();
    oracle.replaced(REMOTE, DevNr(0));
    assert_eq!(show(&mut oracle, 0, &[Z]), Ok(()));
    acked_write(&mut oracle, 4);
    oracle.reported(&[View { state: State::Down, ..WELL }]).unwrap();
    oracle.reported(&[View { consistent: false, ..WELL }]).unwrap();
    oracle.reported(&[WELL]).unwrap();
    oracle.put_to_use(REMOTE, DevNr(0));
    let newer = acked_write(&mut oracle, 5);
    show(&mut oracle, 5, &[newer.content]).unwrap();
    assert!(matches!(oracle.reported(&[WELL]), Err(Violation::Order { .. })));
}

#[test]
fn a_site_s_image_is_that_of_the_shorter_device_until_something_comes_behind_its_old_end() {
    let (held, copied) = (Content::initial(1), Z);
    let grown = || {
        let initial = [vec![Z; 8], [vec![Z; 6], vec![held; 2]].concat()];
        let local = SiteRule { nr: SlinkNr(0), ordered: false, ..rule() };
        let layout = Layout::new(&[Sectors(4), Sectors(4)]);
        let mut oracle = Oracle::new(layout, &[local, rule()], &initial, Sectors(20));
        oracle.set_aside(&(6..8));
        oracle.reported(&[WELL, WELL]).unwrap();
        oracle.grown(0, 6..8, |_| smallvec![Z]);
        oracle.grown(1, 6..8, |_| smallvec![held]);
        let down = View { state: State::Down, detached: true, in_force: false, ..WELL };
        assert_eq!(oracle.reported(&[WELL, down]), Ok(()), "consistent, and older");
        oracle
    };
    let mut oracle = grown();
    let said = oracle.reported(&[WELL, WELL]);
    assert!(matches!(said, Err(Violation::Unsynced { .. })), "{said:?}");
    let mut oracle = grown();
    let seen = oracle.changed(1, 6..7, |_| smallvec![copied]);
    assert!(matches!(seen, Err(Violation::Unsynced { .. })), "{seen:?}");
    let mut oracle = grown();
    oracle.reported(&[WELL, View { consistent: false, ..WELL }]).unwrap();
    oracle.changed(1, 6..8, |_| smallvec![copied]).unwrap();
    assert_eq!(oracle.reported(&[WELL, WELL]), Ok(()));
}

#[test]
fn a_sync_site_out_of_force_may_lack_what_is_acknowledged_and_not_when_it_is_back() {
    let mut oracle = oracle_with(sync_rule());
    oracle.reported(&[View { in_force: false, ..WELL }]).unwrap();
    let lacked = acked_write(&mut oracle, 0);
    let said = oracle.clone().reported(&[WELL]);
    assert!(matches!(said, Err(Violation::FalselyInForce { nr, .. }) if nr == lacked.nr));
    show(&mut oracle, 0, &[lacked.content]).unwrap();
    assert_eq!(oracle.reported(&[WELL]), Ok(()));
}

#[test]
fn a_machine_that_comes_back_is_not_believed_what_it_says_of_a_site_in_force() {
    let mut oracle = oracle_with(sync_rule());
    oracle.reported(&[View { in_force: false, ..WELL }]).unwrap();
    let lacked = [0, 0, 0].map(|at| acked_write(&mut oracle, at))[2];
    oracle.died();
    assert_eq!(oracle.reported(&[WELL]), Ok(()), "what survived is not known yet");
    oracle.recovered(lacked.nr, false, &image(&[(0, lacked)])).unwrap();
    assert!(matches!(oracle.reported(&[WELL]), Err(Violation::FalselyInForce { .. })));
}

#[test]
fn a_sync_site_that_writers_are_to_wait_for_is_not_given_up() {
    let policy = Policy { on_down: Some(table::OnDown::Hold), ..sync_rule().policy };
    let mut oracle = oracle_with(SiteRule { policy, ..sync_rule() });
    oracle.reported(&[WELL]).unwrap();
    let down = View { state: State::Down, in_force: false, ..WELL };
    assert_eq!(oracle.clone().reported(&[down]), Err(Violation::GivenUp { site: SlinkNr(1) }));
    oracle.asked_to_resync(REMOTE);
    assert_eq!(oracle.reported(&[down]), Ok(()));
}

fn limited(limit: FallBehind) -> Oracle {
    let mut oracle = oracle_with(SiteRule { limit: Some(limit), ..rule() });
    oracle.reported(&[WELL]).unwrap();
    oracle
}

fn ack_at(oracle: &mut Oracle, at: usize, seconds: u64) -> Result<(), Violation> {
    let write = submit(oracle, at);
    oracle.acked(write.token, false, Time(seconds * 1_000_000_000))
}

#[test]
fn no_write_is_acknowledged_that_takes_a_site_over_its_limit() {
    for limit in [FallBehind::Ios(2), FallBehind::Size(1024)] {
        let mut oracle = limited(limit);
        let first = acked_write(&mut oracle, 0);
        acked_write(&mut oracle, 1);
        assert!(matches!(ack_at(&mut oracle.clone(), 2, 0), Err(Violation::OverLimit { .. })));
        let detached = View { in_force: false, detached: true, ..WELL };
        let mut given_up = oracle.clone();
        given_up.reported(&[detached]).unwrap();
        assert_eq!(ack_at(&mut given_up, 2, 0), Ok(()));
        show(&mut oracle, 0, &[first.content]).unwrap();
        assert_eq!(ack_at(&mut oracle, 2, 0), Ok(()));
    }
}

#[test]
fn no_write_is_acknowledged_while_a_site_lacks_one_that_is_too_old() {
    let mut oracle = limited(FallBehind::Timeout(blk::Span::from_secs(2)));
    ack_at(&mut oracle, 0, 10).unwrap();
    assert_eq!(ack_at(&mut oracle, 1, 12), Ok(()));
    assert!(matches!(ack_at(&mut oracle, 2, 13), Err(Violation::OverLimit { .. })));
}

#[test]
fn with_order_flush_a_site_may_lack_what_a_volatile_cache_may() {
    let mut oracle = oracle_with(SiteRule { order: Order::Flush, ..rule() });
    assert_eq!(out_of_order(&mut oracle), Ok(()));
    let flush = oracle.flush_submitted();
    oracle.flush_acked(flush).unwrap();
    let newer = submit(&mut oracle, 5);
    let seen = show(&mut oracle, 5, &[newer.content]);
    assert!(matches!(seen, Err(Violation::Order { .. })), "{seen:?}");
}

#[test]
fn a_site_that_a_table_leaves_out_is_still_to_be_in_order() {
    let mut oracle = oracle();
    oracle.retable(vec![SiteRule { named: false, devices: vec![false; 2], ..sync_rule() }]);
    let seen = out_of_order(&mut oracle);
    assert!(matches!(seen, Err(Violation::Order { .. })), "nobody waits for it: {seen:?}");
}

#[test]
fn a_copy_that_a_table_left_out_is_to_be_copied_before_its_site_is_consistent() {
    let mut oracle = oracle();
    oracle.marked(REMOTE, true).unwrap();
    oracle.retable(vec![SiteRule { devices: vec![false, true], ..rule() }]);
    assert!(oracle.is_left_out(REMOTE, DevNr(0)) && !oracle.is_left_out(REMOTE, DevNr(1)));
    assert_eq!(out_of_order(&mut oracle), Ok(()), "device 0 is not there");
    oracle.retable(vec![rule()]);
    oracle.taken_back(REMOTE, 0..4, |_| smallvec![Z]);
    oracle.marked(REMOTE, true).unwrap();
    let said = oracle.clone().reported(&[WELL]);
    assert!(matches!(said, Err(Violation::Order { .. })), "{said:?}");
    oracle.reported(&[View { consistent: false, ..WELL }]).unwrap();
    oracle.marked(REMOTE, false).unwrap();
    let said = oracle.marked(REMOTE, true);
    assert!(matches!(said, Err(Violation::Order { .. })), "{said:?}");
}

#[test]
fn a_copy_that_a_table_left_out_may_hold_what_it_did_however_long_ago_that_was() {
    let mut oracle = oracle();
    let old = acked_write(&mut oracle, 0);
    show(&mut oracle, 0, &[old.content]).unwrap();
    oracle.retable(vec![SiteRule { devices: vec![false, true], ..rule() }]);
    for _ in 0..30 {
        acked_write(&mut oracle, 0);
    }
    oracle.settled();
    oracle.retable(vec![rule()]);
    oracle.taken_back(
        REMOTE,
        0..4,
        |at| if at == 0 { smallvec![old.content] } else { smallvec![Z] },
    );
    oracle.reported(&[View { state: State::Down, detached: true, ..WELL }]).unwrap();
}

#[test]
fn a_sync_site_that_was_in_force_keeps_what_was_acknowledged_until_it_is_said_not_to_be() {
    let mut oracle = oracle_with(sync_rule());
    let old = submit(&mut oracle, 0);
    show(&mut oracle, 0, &[old.content]).unwrap();
    oracle.acked(old.token, false, Time(0)).unwrap();
    oracle.reported(&[WELL]).unwrap();
    let write = submit(&mut oracle, 0);
    show(&mut oracle, 0, &[write.content]).unwrap();
    oracle.acked(write.token, false, Time(0)).unwrap();
    oracle.died();
    oracle.recovered(write.nr, false, &image(&[(0, write)])).unwrap();
    for (demoted, is_lost) in [(false, true), (true, false)] {
        let mut oracle = oracle.clone();
        oracle.reported(&[View { in_force: false, demoted, ..WELL }]).unwrap();
        let seen = show(&mut oracle, 0, &[write.content, old.content]);
        assert_eq!(matches!(seen, Err(Violation::SyncLost { .. })), is_lost, "{seen:?}");
    }
}

#[test]
fn the_log_knows_that_a_sync_site_was_given_up_before_anything_is_acknowledged_without_it() {
    let mut oracle = oracle_with(sync_rule());
    oracle.reported(&[WELL]).unwrap();
    oracle.reported(&[View { in_force: false, ..WELL }]).unwrap();
    acked_write(&mut oracle, 0);
    oracle.died();
    let said = oracle.clone().logged_standing(REMOTE, false);
    assert!(matches!(said, Err(Violation::FalselyInForce { .. })), "{said:?}");
    assert_eq!(oracle.logged_standing(REMOTE, true), Ok(()));
    assert_eq!(oracle.logged_standing(REMOTE, false), Ok(()), "it may be back, and behind");
}
