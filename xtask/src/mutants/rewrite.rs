//! All changes of a file in one text, each asleep until it is asked for: what one build can then judge.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proc_macro2::{LineColumn, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::list::{Genre, Mutant};

/// What stands in front of a change: whether it is the one that is asked for.
const ACTIVE: &str = "::paloma_mutant::active";

/// A file of one of the crates, as it was parsed.
pub(super) struct File {
    text: String,
    lines: Vec<usize>,
    sites: BTreeMap<(Genre, usize, usize), Site>,
    /// Functions that can be called in constants: their names, and where it says so.
    constants: Vec<(String, Range<usize>)>,
}

/// A place where something can be changed.
enum Site {
    /// The start of a function's body.
    Body(usize),
    /// Behind the pattern of an arm without a guard.
    Arm(usize),
    /// An expression that is changed as a whole; what stands on both sides of its operator.
    Expression {
        range: Range<usize>,
        left: String,
        right: String,
    },
}

/// Text that goes in at an offset; `depth` keeps what is nested nested.
struct Insertion {
    at: usize,
    depth: isize,
    text: String,
    /// The change that it belongs to.
    number: u32,
}

/// A text with changes in it.
pub(super) struct Rewritten {
    pub(super) text: String,
    /// Where which change stands.
    pub(super) places: Vec<(u32, Range<usize>)>,
    /// Changes that cannot be put to sleep.
    pub(super) others: Vec<u32>,
}

impl File {
    pub(super) fn parse(text: String) -> Result<Self, String> {
        let parsed = syn::parse_file(&text).map_err(|error| error.to_string())?;
        let lines = text.split_inclusive('\n').scan(0, |offset, line| {
            let start = *offset;
            *offset += line.len();
            Some(start)
        });
        let mut file = Self {
            lines: lines.collect(),
            text,
            sites: BTreeMap::new(),
            constants: Vec::new(),
        };
        Finder(&mut file).visit_file(&parsed);
        Ok(file)
    }

    /// The text with all `mutants` in it, asleep. It has the lines of the original. Functions can be called in constants only if they are named in `constants`: a changed one looks at its environment.
    pub(super) fn with_all(
        &self,
        mutants: &[(u32, &Mutant)],
        constants: &BTreeSet<String>,
    ) -> Rewritten {
        let mut insertions = Vec::new();
        let mut others = Vec::new();
        for (number, mutant) in mutants {
            match self.sites.get(&mutant.site()) {
                Some(site) => site.insert(*number, mutant, &mut insertions),
                None => others.push(*number),
            }
        }
        insertions.sort_by_key(|insertion| (insertion.at, insertion.depth));
        let plain = self.without_constants(constants);
        let mut text = String::with_capacity(plain.len() * 2);
        let mut places = Vec::new();
        let mut done = 0;
        for insertion in insertions {
            text.push_str(plain.get(done..insertion.at).unwrap_or_default());
            places.push((
                insertion.number,
                text.len()..text.len() + insertion.text.len(),
            ));
            text.push_str(&insertion.text);
            done = insertion.at;
        }
        text.push_str(plain.get(done..).unwrap_or_default());
        Rewritten {
            text,
            places,
            others,
        }
    }

    /// The text with this one change in it, as cargo-mutants makes it.
    pub(super) fn with_one(&self, mutant: &Mutant, constants: &BTreeSet<String>) -> String {
        let mut text = self.without_constants(constants);
        let [start, end] = [mutant.start, mutant.end].map(|(line, column)| {
            let position = LineColumn {
                line,
                column: column - 1,
            };
            self.offset(position)
        });
        text.replace_range(start..end, &mutant.replacement);
        text
    }

    fn without_constants(&self, kept: &BTreeSet<String>) -> String {
        let mut text = self.text.clone();
        for (name, range) in &self.constants {
            if !kept.contains(name) {
                text.replace_range(range.clone(), &" ".repeat(range.len()));
            }
        }
        text
    }

    /// Columns count characters.
    fn offset(&self, position: LineColumn) -> usize {
        let start = self.lines.get(position.line - 1).copied();
        let start = start.unwrap_or(self.text.len());
        let line = self.text.get(start..).unwrap_or_default();
        let column = line.char_indices().nth(position.column);
        column.map_or(self.text.len(), |(offset, _)| start + offset)
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.offset(span.start())..self.offset(span.end())
    }

    fn add(&mut self, genre: Genre, span: Span, site: Site) {
        let start = span.start();
        self.sites
            .insert((genre, start.line, start.column + 1), site);
    }
}

impl Site {
    fn insert(&self, number: u32, mutant: &Mutant, insertions: &mut Vec<Insertion>) {
        let replacement = &mutant.replacement;
        match self {
            Self::Body(at) => insertions.push(Insertion {
                number,
                at: *at,
                depth: isize::MIN,
                text: format!(" if {ACTIVE}({number}) {{ return {replacement}; }}"),
            }),
            Self::Arm(at) => insertions.push(Insertion {
                number,
                at: *at,
                depth: isize::MAX,
                text: format!(" if !{ACTIVE}({number})"),
            }),
            Self::Expression { range, left, right } => {
                // What ends here ends before anything begins, the inner before the outer; what begins, begins with the outermost.
                let size = isize::try_from(range.len()).unwrap_or(isize::MAX);
                insertions.push(Insertion {
                    number,
                    at: range.start,
                    depth: isize::MAX - size,
                    text: format!(
                        "(if {ACTIVE}({number}) {{ {left} {replacement} {right} }} else {{ "
                    ),
                });
                insertions.push(Insertion {
                    number,
                    at: range.end,
                    depth: size - isize::MAX,
                    text: " })".to_owned(),
                });
            }
        }
    }
}

/// Collects the sites and the constant functions of a file.
struct Finder<'a>(&'a mut File);

impl Finder<'_> {
    fn function(&mut self, signature: &syn::Signature, body: Option<&syn::Block>) {
        if let Some(constant) = &signature.constness {
            let range = self.0.range(constant.span());
            self.0.constants.push((signature.ident.to_string(), range));
        }
        if let Some(body) = body
            && let Some(first) = body.stmts.first()
        {
            let at = self.0.range(body.brace_token.span.open()).end;
            self.0.add(Genre::FnValue, first.span(), Site::Body(at));
        }
    }

    fn expression(&mut self, genre: Genre, key: Span, whole: Span, sides: [Option<&syn::Expr>; 2]) {
        let [left, right] = sides.map(|side| {
            side.map_or_else(String::new, |side| {
                format!("({})", side.to_token_stream()).replace('\n', " ")
            })
        });
        let range = self.0.range(whole);
        self.0
            .add(genre, key, Site::Expression { range, left, right });
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, Some(&item.block));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, Some(&item.block));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        // A `let` in a chain is no operand that could stand anywhere else.
        if !has_let(&binary.left) && !has_let(&binary.right) {
            self.expression(
                Genre::BinaryOperator,
                binary.op.span(),
                binary.span(),
                [Some(&binary.left), Some(&binary.right)],
            );
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let sides = [None, Some(&*unary.expr)];
        self.expression(Genre::UnaryOperator, unary.op.span(), unary.span(), sides);
        visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        match &arm.guard {
            None => {
                let at = self.0.range(arm.pat.span()).end;
                self.0.add(Genre::MatchArm, arm.span(), Site::Arm(at));
            }
            Some((_, guard)) if !has_let(guard) => {
                let span = guard.span();
                self.expression(Genre::MatchArmGuard, span, span, [None, None]);
            }
            Some(_) => {}
        }
        visit::visit_arm(self, arm);
    }
}

fn has_let(expression: &syn::Expr) -> bool {
    if let syn::Expr::Binary(binary) = expression {
        return has_let(&binary.left) || has_let(&binary.right);
    }
    matches!(expression, syn::Expr::Let(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(
        genre: Genre,
        start: (usize, usize),
        end: (usize, usize),
        replacement: &str,
    ) -> Mutant {
        Mutant {
            name: "a change".to_owned(),
            package: "a".to_owned(),
            file: "src/lib.rs".to_owned(),
            genre,
            start,
            end,
            function: (1, usize::MAX),
            replacement: replacement.to_owned(),
        }
    }

    /// What the text is with these changes in it, without the blanks between tokens.
    fn check(text: &str, mutants: &[Mutant], expected: &str) {
        let file = File::parse(text.to_owned()).unwrap();
        let numbered: Vec<_> = (1..).zip(mutants).collect();
        let rewritten = file.with_all(&numbered, &BTreeSet::new());
        assert!(rewritten.others.is_empty());
        let changed = rewritten.text;
        for (number, place) in rewritten.places {
            let inserted = &changed[place];
            let is_its_own = inserted.contains(&format!("{ACTIVE}({number})"));
            assert!(is_its_own || inserted == " })", "{number}: {inserted}");
        }
        assert_eq!(changed.lines().count(), text.lines().count());
        let changed = changed.replace(ACTIVE, "on");
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&changed), squeeze(expected));
        assert!(syn::parse_file(&changed).is_ok(), "{changed}");
    }

    #[test]
    fn changes_of_nested_operators_are_nested() {
        let operator = |column, width, replacement| {
            let genre = Genre::BinaryOperator;
            mutant(genre, (2, column), (2, column + width), replacement)
        };
        check(
            "fn f(a: u8, b: u8) -> bool {\na + b == b\n}",
            &[
                operator(3, 1, "-"),
                operator(3, 1, "*"),
                operator(7, 2, "!="),
            ],
            "fn f(a: u8, b: u8) -> bool {
             (if on(3) { (a + b) != (b) } else {
             (if on(1) { (a) - (b) } else { (if on(2) { (a) * (b) } else { a + b }) }) == b }) }",
        );
    }

    #[test]
    fn bodies_arms_guards_and_signs_are_changed_where_they_are() {
        let text =
            "const fn f(a: i8) -> i8 {\nmatch a {\n0 => -1,\nb if b > 1 => 2,\n_ => 3,\n}\n}";
        check(
            text,
            &[
                mutant(Genre::FnValue, (2, 1), (6, 2), "7"),
                mutant(Genre::MatchArm, (3, 1), (3, 8), ""),
                mutant(Genre::UnaryOperator, (3, 6), (3, 7), ""),
                mutant(Genre::MatchArmGuard, (4, 6), (4, 11), "false"),
            ],
            "fn f(a: i8) -> i8 { if on(1) { return 7; }
             match a { 0 if !on(2) => (if on(3) { (1) } else { -1 }),
             b if (if on(4) { false } else { b > 1 }) => 2, _ => 3, } }",
        );
    }

    #[test]
    fn a_change_of_a_chain_with_let_is_made_alone() {
        let text =
            "fn f(a: Option<u8>) -> bool {\nif let Some(b) = a && b > 1 { true } else { false }\n}";
        let file = File::parse(text.to_owned()).unwrap();
        let chain = mutant(Genre::BinaryOperator, (2, 20), (2, 22), "||");
        let unchanged = file.with_all(&[(1, &chain)], &BTreeSet::new());
        assert_eq!((unchanged.text.as_str(), unchanged.others), (text, vec![1]));
        let changed = file.with_one(&chain, &BTreeSet::new());
        assert!(changed.contains("= a || b > 1"), "{changed}");
    }

    #[test]
    fn functions_stay_constant_where_constants_call_them() {
        let file = File::parse("const fn f() {}\nconst fn g() {}".to_owned()).unwrap();
        let kept = BTreeSet::from(["g".to_owned()]);
        let text = file.with_all(&[], &kept).text;
        assert_eq!(text, "      fn f() {}\nconst fn g() {}");
    }
}
