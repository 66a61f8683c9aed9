//! hale-playbooks
