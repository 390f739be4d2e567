//! Every rule of the registry, as a sentence.

use crate::{Class, Registry, RegistryError, TypeInfo, Version};

/// A class whose constructors are functions.
#[derive(Debug)]
struct Greeting;
impl Class for Greeting {
    const NAME: &'static str = "greeting";
    type Constructor = fn(&str) -> String;
}

/// A class whose constructors are of another type.
#[derive(Debug)]
struct Number;
impl Class for Number {
    const NAME: &'static str = "number";
    type Constructor = u64;
}

fn hello(name: &str) -> String {
    format!("hello {name}")
}

fn bye(name: &str) -> String {
    format!("bye {name}")
}

const V1: Version = Version(1, 0, 0);

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register::<Greeting>("hello", V1, hello).unwrap();
    registry.register::<Greeting>("bye", Version(1, 2, 3), bye).unwrap();
    registry.register::<Number>("hello", V1, 7).unwrap();
    registry
}

#[test]
fn a_registered_constructor_is_handed_out_by_its_name() {
    let registry = registry();
    assert_eq!(registry.get::<Greeting>("hello").unwrap()("you"), "hello you");
    assert_eq!(registry.get::<Greeting>("bye").unwrap()("you"), "bye you");
}

#[test]
fn one_name_may_live_in_two_classes() {
    assert_eq!(*registry().get::<Number>("hello").unwrap(), 7);
}

#[test]
fn a_duplicate_is_refused_and_the_first_one_stays() {
    let mut registry = registry();
    let error = registry.register::<Greeting>("hello", Version(9, 9, 9), bye).unwrap_err();
    assert_eq!(error, RegistryError::Duplicate { class: "greeting", name: "hello", version: V1 });
    assert_eq!(
        error.to_string(),
        "the greeting type `hello` is registered already, in version 1.0.0"
    );
    assert_eq!(registry.get::<Greeting>("hello").unwrap()("you"), "hello you");
}

#[test]
fn a_name_that_is_no_plain_word_is_refused() {
    let mut registry = Registry::new();
    for name in
        ["", "Upper", "two words", "a/b", "ä", "1st", "-", "a-name-too-long!", "abcdefghijklmnop"]
    {
        let error = registry.register::<Number>(name, V1, 0).unwrap_err();
        assert_eq!(error, RegistryError::BadName { class: "number", name });
    }
    assert!(registry.types().is_empty());
}

#[test]
fn the_names_of_the_2009_types_are_good_names() {
    let mut registry = Registry::new();
    for name in ["ringbuffer", "blockdev", "nolog", "core", "disk", "replicator", "replicator-dev"]
    {
        registry.register::<Number>(name, V1, 0).unwrap();
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_names_there_are() {
    let registry = registry();
    assert_eq!(
        registry.get::<Greeting>("hi").unwrap_err().to_string(),
        "there is no greeting type `hi`: expected one of `bye`, `hello`"
    );
    assert_eq!(
        Registry::new().get::<Greeting>("hi").unwrap_err().to_string(),
        "there is no greeting type `hi`: none is registered"
    );
}

#[test]
fn a_lease_is_a_use_until_it_is_dropped() {
    let registry = registry();
    let users = || registry.types()[1].users;
    let first = registry.get::<Greeting>("hello").unwrap();
    let second = first.clone();
    assert_eq!(users(), 2);
    drop(first);
    assert_eq!(users(), 1);
    drop(second);
    assert_eq!(users(), 0);
}

#[test]
fn a_type_in_use_is_not_unregistered() {
    let mut registry = registry();
    let lease = registry.get::<Greeting>("hello").unwrap();
    let error = registry.unregister::<Greeting>("hello").unwrap_err();
    assert_eq!(error, RegistryError::InUse { class: "greeting", name: "hello", users: 1 });
    assert_eq!(
        error.to_string(),
        "the greeting type `hello` is in use 1 time: stop its users first"
    );
    drop(lease);
    registry.unregister::<Greeting>("hello").unwrap();
    assert!(registry.get::<Greeting>("hello").is_err());
}

#[test]
fn the_use_of_one_class_does_not_pin_its_namesake_in_another() {
    let mut registry = registry();
    let _lease = registry.get::<Greeting>("hello").unwrap();
    registry.unregister::<Number>("hello").unwrap();
}

#[test]
fn unregistering_an_unknown_type_is_refused() {
    let mut registry = registry();
    let error = registry.unregister::<Number>("bye").unwrap_err();
    let registered = vec!["hello"];
    assert_eq!(error, RegistryError::Unknown { class: "number", name: "bye".into(), registered });
}

#[test]
fn an_unregistered_name_is_free_again() {
    let mut registry = registry();
    registry.unregister::<Number>("hello").unwrap();
    registry.register::<Number>("hello", V1, 8).unwrap();
    assert_eq!(*registry.get::<Number>("hello").unwrap(), 8);
}

#[test]
fn the_listing_is_sorted_and_counts_the_users() {
    let registry = registry();
    let _lease = registry.get::<Greeting>("bye").unwrap();
    let row = |class, name, version, users| TypeInfo { class, name, version, users };
    assert_eq!(
        registry.types(),
        [
            row("greeting", "bye", Version(1, 2, 3), 1),
            row("greeting", "hello", V1, 0),
            row("number", "hello", V1, 0),
        ]
    );
}

#[test]
fn a_lease_outlives_its_registry() {
    let lease = registry().get::<Greeting>("hello").unwrap();
    assert_eq!(lease("you"), "hello you");
}
