//! Text to comparable words: metric names are split, endings are cut, filler is left out.

/// Words that say nothing about what is wrong.
const FILLER: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "because", "been", "by", "can", "for", "from",
    "has", "have", "in", "is", "it", "its", "more", "of", "on", "or", "so", "than", "that", "the",
    "then", "there", "this", "to", "was", "were", "which", "while", "will", "with", "total",
    "value", "current", "minute", "hour", "day", "last",
];

/// Splits `pg_stat_activity.maxTx` or `KubePodNotReady` into words, lower-case, numbers kept apart.
pub fn split(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        let next_is_lower = chars.peek().is_some_and(|n| n.is_lowercase());
        let is_seam =
            c.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && next_is_lower));
        if !c.is_alphanumeric() || is_seam {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.push(word);
    words.retain(|w| !w.is_empty());
    words
}

/// The words that matter, each with its ending cut: `connections` and `connection` are one.
pub fn terms(text: &str) -> Vec<String> {
    let mut terms = split(text);
    terms.retain(|w| w.chars().any(char::is_alphabetic) && !FILLER.contains(&w.as_str()));
    terms.iter_mut().for_each(stem);
    terms
}

/// Cuts the commonest English endings: enough for descriptions of trouble, and predictable.
fn stem(word: &mut String) {
    const ENDINGS: &[(&str, &str)] = &[
        ("ations", "at"),
        ("ation", "at"),
        ("ings", ""),
        ("ing", ""),
        ("edly", ""),
        ("ies", "y"),
        ("sses", "ss"),
        ("ied", "y"),
        ("ed", ""),
        ("es", "e"),
        ("s", ""),
    ];
    let keeps = [
        "ss", "us", "is", "dns", "tls", "cls", "aws", "os", "nfs", "zfs", "hdfs", "less",
    ];
    if word.len() <= 3 || keeps.iter().any(|k| word.ends_with(k)) {
        return;
    }
    if let Some((ending, instead)) = ENDINGS.iter().find(|(e, _)| word.ends_with(e)) {
        let kept = word.len() - ending.len();
        if kept >= 3 {
            word.truncate(kept);
            word.push_str(instead);
        }
    }
    // `terminate`, `terminating` and `terminated` meet here, and so do `full` and `ful`.
    if word.len() > 4 && word.ends_with('e') {
        word.pop();
    }
}

/// A metric's path for people and for the embedding: `database.connections_utilization` is
/// "database connections utilization".
pub fn humanise(metric: &str) -> String {
    split(metric).join(" ")
}

/// Replaces what differs between two incidents of one kind (numbers, hosts, ids) by nothing, so
/// that only the words of trouble are compared.
pub fn without_particulars(text: &str) -> String {
    let is_particular = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        let digits = word.chars().filter(char::is_ascii_digit).count();
        digits > 0 && (digits * 2 >= word.chars().count() || word.contains(['-', ':', '.']))
    };
    let kept: Vec<&str> = text
        .split_whitespace()
        .filter(|w| !is_particular(w))
        .collect();
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn metric_names_of_every_house_become_words() {
        let check = |text, expected: &[&str]| assert_eq!(split(text), expected);
        check(
            "database.connections_utilization",
            &["database", "connections", "utilization"],
        );
        check("KubePodNotReady", &["kube", "pod", "not", "ready"]);
        check(
            "ClickHouseAsyncMetrics_ReplicasMaxAbsoluteDelay",
            &[
                "click", "house", "async", "metrics", "replicas", "max", "absolute", "delay",
            ],
        );
        check(
            "PGBouncerHighWaitTime",
            &["pg", "bouncer", "high", "wait", "time"],
        );
    }

    #[test]
    fn forms_of_one_word_are_one_term() {
        for (a, b) in [
            ("connections", "connection"),
            ("restarted", "restarting"),
            ("queries", "query"),
            ("terminates", "terminated"),
            ("replication", "replications"),
        ] {
            assert_eq!(terms(a), terms(b), "{a} {b}");
        }
    }

    #[test]
    fn what_differs_between_two_of_a_kind_is_left_out() {
        assert_eq!(
            without_particulars("Disk 95% full on prod-db-01 (x2)"),
            "Disk full on"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = (terms(&text), humanise(&text), without_particulars(&text));
        }
    }
}
