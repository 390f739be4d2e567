//! What users read about writers and sites is what the code does.

const README: &str = include_str!("../../../README.md");
const BEGIN: &str = "<!-- printed by slink::policy::decision_table -->\n";
const END: &str = "<!-- end -->";

#[test]
fn the_readme_has_the_decision_table_as_the_code_decides() {
    let table = slink::policy::decision_table();
    let (_, rest) = README.split_once(BEGIN).expect("the README marks where its table begins");
    let (found, _) = rest.split_once(END).expect("the README marks where its table ends");
    assert_eq!(found, table, "README.md: put this between the marks:\n{table}");
}
