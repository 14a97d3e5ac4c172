//! What is told of a configuration that is wrong, and of the secrets in it.

use crate::load_profile;
use crate::problems_of;

#[test]
fn a_secret_under_a_key_that_does_not_exist_is_not_shown() {
    let text = "schema_version = 1\nid = \"x\"\nextends = [\"generic\"]\n\
                [registration]\npassword = \"hunter2\"\n";
    let found = problems_of(load_profile(text));
    assert!(found.contains("x.toml:5:1: there is no key `registration.password`"), "{found}");
    assert!(!found.contains("hunter2"), "{found}");
    for line in [
        "[inbound]\ndigets = { mode = \"required\", password_ref = \"hunter2\" }",
        "[inbound]\n\
         digest = { mode = \"required\", username = \"u\", password_ref = \"hunter2\", odd = 1 }",
        "[registration]\nPassword = \"hunter2\"",
    ] {
        let text = format!("schema_version = 1\nid = \"x\"\nextends = [\"generic\"]\n{line}\n");
        let found = problems_of(load_profile(&text));
        assert!(found.contains("x.toml:5:") && found.contains("there is no key"), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
    let found = problems_of(load_profile(&format!("{text}password_ref = \"hunter3\n")));
    assert!(found.contains("x.toml:6:") && !found.contains("hunter"), "{found}");
}

#[test]
fn a_secret_in_the_place_of_its_reference_is_not_shown() {
    let problems = problems_of(load_profile(
        r#"schema_version = 1
id = "x"
[inbound]
digest = { mode = "required", username = "u", password_ref = "hunter2" }
"#,
    ));
    assert!(problems.contains("a secret is given by reference"), "{problems}");
    assert!(!problems.contains("hunter2"), "{problems}");
}
