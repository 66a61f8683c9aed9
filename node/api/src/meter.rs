//! What the API counts about itself: requests by route and status, and how long they took.

use crate::metrics::{Family, Kind, Point};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0];

/// Counts requests. Bounded: the routes are a table, the statuses a dozen.
#[derive(Default)]
pub(crate) struct Meter {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    times: Mutex<BTreeMap<&'static str, Times>>,
    pub(crate) connections: AtomicU64,
    pub(crate) followers: AtomicU64,
}

#[derive(Default, Clone)]
struct Times {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Meter {
    pub(crate) fn count(&self, route: &'static str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status)).or_default() += 1;
        drop(requests);
        let seconds = took.as_secs_f64();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let times = times.entry(route).or_default();
        for (bucket, bound) in times.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        times.count += 1;
        times.sum_seconds += seconds;
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let mut requests = Family::new(
            Kind::Counter,
            "hale_http_requests_total",
            "HTTP requests by route and status.",
        );
        for ((route, status), n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let status = status.to_string();
            requests = requests.point([("route", *route), ("status", &status)], *n as f64);
        }
        let gauge = |name, help, value: &AtomicU64| {
            Family::gauge(name, help, value.load(Ordering::Relaxed) as f64)
        };
        vec![
            requests,
            self.durations(),
            gauge(
                "hale_http_connections",
                "Connections open now.",
                &self.connections,
            ),
            gauge(
                "hale_http_followers",
                "Clients that follow events now.",
                &self.followers,
            ),
        ]
    }

    fn durations(&self) -> Family {
        let mut family = Family::new(
            Kind::Histogram,
            "hale_http_request_duration_seconds",
            "From a request's head to its answer's head.",
        );
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        for (route, times) in &*times {
            let mut add = |suffix, le: Option<String>, value| {
                let mut labels = vec![("route".to_owned(), (*route).to_owned())];
                labels.extend(le.map(|le| ("le".to_owned(), le)));
                family.points.push(Point {
                    suffix,
                    labels,
                    value,
                });
            };
            for (bound, n) in BUCKETS.iter().zip(times.buckets) {
                add("_bucket", Some(bound.to_string()), n as f64);
            }
            add("_bucket", Some("+Inf".into()), times.count as f64);
            add("_sum", None, times.sum_seconds);
            add("_count", None, times.count as f64);
        }
        family
    }
}
