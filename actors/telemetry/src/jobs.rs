//! Jobs that say in a log that they start: of cron, of anacron, and units of systemd.

/// The longest name of a job that is told, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 80;

/// The job that a line says has started, whole. `message` is the line without its head.
///
/// ```text
/// CRON[4711]: (root) CMD (/usr/local/bin/backup --full)
/// anacron[12]: Job `cron.daily' started
/// systemd[1]: Starting backup.service - Nightly backup...
/// ```
pub fn started<'a>(line: &str, message: &'a str) -> Option<&'a str> {
    let message = message.trim();
    let name = if let Some((user, command)) = message.split_once(") CMD (") {
        let is_cron = user.starts_with('(') && (says(line, "cron") || says(line, "crond"));
        command.strip_suffix(')').filter(|_| is_cron)
    } else if let Some(rest) = message.strip_prefix("Job `") {
        let name = rest.strip_suffix("' started");
        name.filter(|_| says(line, "anacron"))
    } else if let Some(rest) = message.strip_prefix("Starting ") {
        let name = rest.split(" - ").next().unwrap_or(rest);
        Some(name.trim_end_matches('.')).filter(|_| says(line, "systemd"))
    } else {
        None
    }?;
    Some(name.trim()).filter(|n| !n.is_empty())
}

/// Whether a line names this program, as its head does.
fn says(line: &str, program: &str) -> bool {
    let mut words = line.split([' ', '[', ':']);
    words.any(|w| w.eq_ignore_ascii_case(program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::severity;

    fn of(line: &str) -> Option<String> {
        let parsed = severity::parse(line);
        started(line, &parsed.message).map(str::to_owned)
    }

    #[test]
    fn jobs_are_named_by_those_who_start_them() {
        let told = [
            (
                "Feb 12 03:00:01 db-1 CRON[4711]: (root) CMD (/usr/local/bin/backup --full)",
                "/usr/local/bin/backup --full",
            ),
            (
                "2026-02-12T03:00:01.123456+00:00 db-1 crond[4711]: (app) CMD (vacuum)",
                "vacuum",
            ),
            (
                "Feb 12 07:35:01 db-1 anacron[12]: Job `cron.daily' started",
                "cron.daily",
            ),
            (
                "Feb 12 03:00:01 db-1 systemd[1]: Starting backup.service - Nightly backup...",
                "backup.service",
            ),
            (
                "Feb 12 03:00:01 db-1 systemd[1]: Starting Nightly backup...",
                "Nightly backup",
            ),
        ];
        for (line, name) in told {
            assert_eq!(of(line).as_deref(), Some(name), "{line}");
        }
    }

    #[test]
    fn other_lines_start_nothing() {
        for line in [
            "",
            "Feb 12 03:00:01 db-1 app[1]: Starting up",
            "Feb 12 03:00:01 db-1 app[1]: (root) CMD (x)",
            "Feb 12 03:00:01 db-1 systemd[1]: Started backup.service.",
            "Feb 12 03:00:01 db-1 CRON[1]: (root) CMD ()",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }
}
