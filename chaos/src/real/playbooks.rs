//! What the hosts contend for: a playbook for each lease.

use super::RealError;
use super::hosts::LEASES;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One playbook for each lease: under it, a line is written ten times a second for two seconds.
pub(super) fn write(dir: &Path) -> Result<(), RealError> {
    for name in LEASES {
        let ticks = dir.join(format!("ticks-{name}"));
        let ticks = ticks.display();
        // Each run names itself by its process, so that two runs are told apart.
        let script = format!(
            "#!/bin/sh\nstarted=$(cut -d' ' -f22 /proc/$$/stat)\ni=0\nwhile [ $i -lt 20 ]; do\n  \
             echo \"$$-$started $(date +%s%N)\" >> '{ticks}'\n  i=$((i+1))\n  sleep 0.1\ndone\n"
        );
        let program = dir.join(format!("hold-{name}"));
        let made = fs::write(&program, script)
            .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)));
        made.map_err(RealError::io(format!(
            "{} can't be written",
            program.display()
        )))?;
        let program = program.display().to_string();
        let yaml = format!(
            "metadata:\n  name: hold_{name}\n  version: \"1.0.0\"\n  description: >-\n    \
             {name} health check down: the health check of {name} fails, {name} answers 503 and \
             serves nobody. Holds the lease {name} for two seconds.\n  \
             idempotent: true\n  services: [{name}]\n  signature:\n    \
             series: [{{metric: health.up, direction: below}}]\n  scope: custom:{name}\n  \
             max_duration: 60s\nsteps:\n  - name: tick\n    type: command\n    \
             argv: [{program:?}]\n    timeout: 10s\nverification:\n  \
             - name: held\n    type: condition\n    condition: \"true\"\n\
             no_rollback_reason: it only writes into a scratch directory\n"
        );
        let path = dir.join("playbooks").join(format!("hold_{name}.yaml"));
        fs::write(&path, yaml).map_err(RealError::io(format!(
            "{} can't be written",
            path.display()
        )))?;
    }
    Ok(())
}
