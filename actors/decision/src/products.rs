//! Which software a text speaks of. A playbook for one product is not for another, however alike
//! the words; and a service tag alone is a weak hint, because whoever tagged a host thought of the
//! host. General knowledge, kept as a table: name, then the other ways it is written.

use crate::words;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

/// Each line one product: its name first. Names of several words are written with spaces.
const PRODUCTS: &[&[&str]] = &[
    &[
        "postgresql",
        "postgres",
        "pgbouncer",
        "pg",
        "pgpool",
        "cnpg",
        "pgsql",
        "cloudnativepg",
        "patroni",
        "pgbackrest",
    ],
    &[
        "mysql", "mariadb", "galera", "percona", "innodb", "wsrep", "proxysql", "xtradb", "mysqld",
    ],
    &["redis", "valkey", "keydb", "sentinel"],
    &["memcached", "memcache"],
    &["mongodb", "mongo", "mongod", "mongos"],
    &["cassandra", "scylla", "scylladb"],
    &["elasticsearch", "opensearch", "elastic"],
    &["etcd"],
    &["zookeeper", "zk"],
    &["kafka", "strimzi", "redpanda"],
    &["rabbitmq", "amqp"],
    &["nats", "jetstream"],
    &["activemq", "artemis"],
    &["pulsar", "bookkeeper"],
    &["sidekiq"],
    &["celery"],
    &["resque"],
    &["nginx"],
    &["haproxy"],
    &["traefik"],
    &["envoy", "istio", "linkerd"],
    &["apache", "httpd"],
    &["varnish"],
    &["caddy"],
    &["squid"],
    &["php fpm", "phpfpm", "php"],
    &["java", "jvm", "tomcat", "jboss", "wildfly"],
    &["coredns"],
    &["bind", "named"],
    &["unbound"],
    &["systemd resolved"],
    &["dnsmasq"],
    &["pdns", "powerdns"],
    &["chrony", "chronyd", "ntpd", "ntp", "timesyncd"],
    &["docker", "dockerd", "containerd"],
    &[
        "kubernetes",
        "k8s",
        "kube",
        "kubelet",
        "apiserver",
        "etcdmember",
    ],
    &["argocd", "argo"],
    &["flux", "fluxcd", "gotk"],
    &["prometheus", "thanos", "mimir", "cortex"],
    &["alertmanager"],
    &["grafana"],
    &["loki"],
    &["tempo"],
    &["jaeger"],
    &["fluentd"],
    &["fluentbit", "fluent bit"],
    &["promtail"],
    &["filebeat"],
    &["logstash"],
    &["rsyslog", "syslog ng"],
    &["vector"],
    &["ceph"],
    &["minio"],
    &["hdfs", "hadoop", "namenode", "datanode"],
    &["gluster", "glusterfs"],
    &["longhorn"],
    &["rook"],
    &["zfs", "zpool"],
    &["mdadm", "raid"],
    &["nfs"],
    &["velero"],
    &["barman"],
    &["restic"],
    &["borg", "borgbackup"],
    &["bacula"],
    &["vault", "openbao"],
    &["consul"],
    &["nomad"],
    &["jenkins"],
    &["gitlab"],
    &["github"],
    &["postfix"],
    &["exim"],
    &["dovecot"],
    &["cockroachdb", "cockroach", "crdb"],
    &["sql server", "mssql"],
    &["oracle", "oracledb"],
    &["db2"],
    &["clickhouse", "click house"],
    &["couchdb", "couch db", "couchbase"],
    &["influxdb"],
    &["neo4j"],
    &["tidb"],
    &["yugabyte", "yugabytedb"],
    &["aws", "alb", "sqs", "rds", "ec2", "cloudwatch"],
    &["azure"],
    &["gcp", "gce"],
    &["cloudflare"],
    &["openstack", "nova", "neutron"],
    &["keycloak"],
    &["openldap", "ldap", "slapd"],
    &["sshd", "ssh"],
    &["juniper", "junos"],
    &["cisco"],
    &["mikrotik"],
    &["ups", "apcupsd", "apc"],
    &["smartctl", "smartd"],
    &["solr"],
    &["hazelcast"],
    &["ignite"],
    &["spark"],
    &["flink"],
    &["airflow"],
    &["hive"],
    &["vmware", "vsphere", "esxi"],
    &["proxmox"],
    &["libvirt", "qemu"],
    &["windows"],
    &["sap"],
];

/// Names of services that are the host itself, or any program on it.
const GENERIC: &[&str] = &[
    "host",
    "filesystem",
    "app",
    "api",
    "network",
    "kernel",
    "cpu",
    "memory",
    "disk",
    "swap",
    "tls",
    "systemd",
    "tcp",
    "security",
    "sensors",
    "system",
    "linux",
    "node",
    "process",
    "service",
    "cron",
    "backup",
    "mail",
    "dns",
    "container",
    "exporter",
    "bonding",
    "smart",
    "web",
    "database",
    "http",
];

/// Products that speak another's language or do its work: what is known of the one is a hint for the
/// other, and never enough to act on.
const KIN: &[(&str, &str)] = &[
    ("cockroachdb", "postgresql"),
    ("yugabyte", "postgresql"),
    ("tidb", "mysql"),
    ("couchdb", "mongodb"),
    ("activemq", "rabbitmq"),
    ("pulsar", "kafka"),
    ("varnish", "nginx"),
    ("caddy", "nginx"),
    ("solr", "elasticsearch"),
    ("thanos", "prometheus"),
    ("vector", "fluentbit"),
    ("exim", "postfix"),
];

/// A product by its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Product(usize);

impl Product {
    /// The product whose language it speaks.
    pub fn kin(self) -> Option<Self> {
        let (_, kin) = KIN.iter().find(|(name, _)| *name == self.name())?;
        table().get(kin).copied()
    }

    /// Its usual name.
    pub fn name(self) -> &'static str {
        PRODUCTS
            .get(self.0)
            .and_then(|names| names.first())
            .copied()
            .unwrap_or("")
    }
}

fn table() -> &'static HashMap<&'static str, Product> {
    static TABLE: OnceLock<HashMap<&'static str, Product>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let each = PRODUCTS.iter().enumerate();
        each.flat_map(|(i, names)| names.iter().map(move |n| (*n, Product(i))))
            .collect()
    })
}

/// The products a text names, alone or as parts of metric names (`mysql_up`, `KubePodNotReady`).
pub fn named_in(text: &str) -> BTreeSet<Product> {
    let table = table();
    let words = words::split(text);
    let alone = words.iter().filter_map(|w| table.get(w.as_str()));
    let pairs = words
        .windows(2)
        .filter_map(|w| table.get(w.join(" ").as_str()));
    let joined = words
        .windows(2)
        .filter_map(|w| table.get(w.concat().as_str()));
    alone.chain(pairs).chain(joined).copied().collect()
}

/// The text with the products that have another name for it called by that name.
pub fn renamed(text: &str, other: impl Fn(Product) -> Option<&'static str>) -> Cow<'_, str> {
    let table = table();
    let mut renamed = String::new();
    let mut copied = 0;
    let is_part = |c: char| c.is_ascii_alphanumeric();
    let mut rest = 0;
    while let Some(start) = text[rest..].find(is_part).map(|at| rest + at) {
        let length = text[start..].find(|c| !is_part(c));
        let end = length.map_or(text.len(), |n| start + n);
        let product = table.get(text[start..end].to_lowercase().as_str());
        if let Some(name) = product.and_then(|p| other(*p)) {
            renamed.push_str(&text[copied..start]);
            renamed.push_str(name);
            copied = end;
        }
        rest = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    renamed.push_str(&text[copied..]);
    Cow::Owned(renamed)
}

/// The product a service is, by its exact name or the first part of a unit's name. None: it is the
/// host itself or a program of the house's own.
pub fn of_service(service: &str) -> Option<Product> {
    let words = words::split(service);
    // What exports a product's metrics is a program of its own.
    if words.iter().any(|w| w == "exporter") {
        return None;
    }
    let spaced = words.join(" ");
    let table = table();
    table
        .get(spaced.as_str())
        .or_else(|| table.get(spaced.split(' ').next()?))
        .copied()
}

/// Whether a service's name says no more than "this host" or "some program".
pub fn is_generic(service: &str) -> bool {
    GENERIC.contains(&service.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_found_in_metric_names_and_in_prose() {
        let check = |text, expected: &[&str]| {
            let mut found: Vec<_> = named_in(text).into_iter().map(Product::name).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{text}");
        };
        check("pg_stat_activity_max_tx", &["postgresql"]);
        check("SQL Server down", &["sql server"]);
        check("ClickHouseAsyncMetrics_Delay", &["clickhouse"]);
        check("the disk is full", &[]);
        check("redis behind haproxy", &["haproxy", "redis"]);
    }

    #[test]
    fn a_product_is_called_as_what_it_speaks() {
        let kin = |text| renamed(text, |p| p.kin().map(Product::name)).into_owned();
        assert_eq!(
            kin("CockroachDB pool, crdb!"),
            "postgresql pool, postgresql!"
        );
        assert_eq!(kin("é tidb"), "é mysql");
        assert!(matches!(
            renamed("redis is full", |p| p.kin().map(Product::name)),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn every_name_stands_in_the_table_once() {
        let mut names: Vec<_> = PRODUCTS.iter().flat_map(|p| p.iter()).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
