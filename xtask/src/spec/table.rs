//! The table of what stands behind each statement.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    citations::{Citations, Cited},
    statements::{Role, Statement, Statements},
};

/// How many tests a row names; the rest are counted.
const NAMED_MAX: usize = 3;

/// How one statement stands in one role.
#[derive(Debug, PartialEq, Eq)]
enum Standing<'a> {
    Traced,
    NotApplicable(&'a str),
    Untraced(&'static str),
}

/// The page, and a line for each statement without code or without a test.
pub(super) fn write(statements: &Statements, citations: &Citations) -> (String, Vec<String>) {
    let mut page = String::from(
        "# Coverage of the standards\n\n\
         Written by `cargo xtask spec`; what the ids and roles are is said in [spec](spec/README.md). The first tests of a statement by name,\n\
         the rest by number.\n",
    );
    let mut untraced = Vec::new();
    for document in &statements.documents {
        let mut traced = 0;
        let mut excused = 0;
        let mut rows = String::new();
        for statement in &document.statements {
            let standings: Vec<(Role, Standing<'_>)> = statement
                .roles
                .iter()
                .map(|role| (*role, standing(statements, citations, statement, *role)))
                .collect();
            let is_excused = standings
                .iter()
                .all(|(_, standing)| matches!(standing, Standing::NotApplicable(_)));
            let mut is_open = false;
            for (role, standing) in &standings {
                if let Standing::Untraced(lacks) = standing {
                    is_open = true;
                    let (id, role) = (&statement.id, role.name());
                    untraced.push(format!(
                        "{id} has no {lacks} for the {role}: {}",
                        statement.text
                    ));
                }
            }
            excused += usize::from(is_excused);
            traced += usize::from(!is_excused && !is_open);
            rows.push_str(&row(statements, citations, statement, &standings));
        }
        let total = document.statements.len();
        let open = total - traced - excused;
        let _infallible = write!(
            page,
            "\n## {}\n\n{total} statements: {traced} traced, {excused} not applicable, {open} untraced.\n\n\
             | id | binds | code | tests |\n|---|---|---|---|\n{rows}",
            document.title
        );
    }
    (page, untraced)
}

fn standing<'a>(
    statements: &'a Statements,
    citations: &Citations,
    statement: &Statement,
    role: Role,
) -> Standing<'a> {
    if let Some(reason) = statements.note(&statement.id, role) {
        return Standing::NotApplicable(reason);
    }
    let has_code = statements
        .with_same(&statement.id)
        .filter_map(|id| citations.of(id))
        .any(|cited| has(&cited.code, role));
    let has_test = citations
        .of(&statement.id)
        .is_some_and(|cited| has(&cited.tests, role));
    match (has_code, has_test) {
        (true, true) => Standing::Traced,
        (false, true) => Standing::Untraced("code"),
        (true, false) => Standing::Untraced("test"),
        (false, false) => Standing::Untraced("code and no test"),
    }
}

fn has(places: &BTreeSet<(Role, String)>, role: Role) -> bool {
    places.iter().any(|(found, _)| *found == role)
}

fn row(
    statements: &Statements,
    citations: &Citations,
    statement: &Statement,
    standings: &[(Role, Standing<'_>)],
) -> String {
    let roles: Vec<&str> = statement.roles.iter().map(|role| role.name()).collect();
    let code: BTreeSet<&str> = statements
        .with_same(&statement.id)
        .filter_map(|id| citations.of(id))
        .flat_map(|cited| places(&cited.code))
        .collect();
    let tests: BTreeSet<&str> = citations
        .of(&statement.id)
        .into_iter()
        .flat_map(|cited: &Cited| places(&cited.tests))
        .collect();
    let mut tests_text = list(&tests);
    for (role, standing) in standings {
        if let Standing::NotApplicable(reason) = standing {
            let role = role.name();
            let _infallible = write!(tests_text, " {role}: not applicable, {reason}");
        }
    }
    format!(
        "| {} | {} | {} | {} |\n",
        statement.id,
        roles.join(", "),
        list(&code),
        tests_text.trim()
    )
}

fn places(places: &BTreeSet<(Role, String)>) -> impl Iterator<Item = &str> {
    places.iter().map(|(_, place)| place.as_str())
}

fn list(places: &BTreeSet<&str>) -> String {
    let named: Vec<String> = places
        .iter()
        .take(NAMED_MAX)
        .map(|place| format!("`{place}`"))
        .collect();
    let more = places.len().saturating_sub(NAMED_MAX);
    if more == 0 {
        named.join(" ")
    } else {
        format!("{} and {more} more", named.join(" "))
    }
}
