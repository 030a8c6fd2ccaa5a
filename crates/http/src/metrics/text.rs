//! Reads our own Prometheus text back into the groups of Nomad's JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Words of metric names that keep their underscore where the JSON form puts dots.
const KEPT_WHOLE: [&str; 4] =
    ["check_registrations", "total_gc_pause_ns", "alloc_bytes", "is_leader"];

/// Gauges, counters and samples, in the order of the text.
pub(super) fn read(text: &str) -> (Vec<Value>, Vec<Value>, Vec<Value>) {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut gauges, mut counters, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = declared.split_once(' ') {
                kinds.insert(name, kind);
            }
            continue;
        }
        let Some((name, labels, value)) = sample(line) else { continue };
        let shown = dotted(name);
        match kinds.get(name) {
            Some(&"counter") => counters.push(json!({
                "Name": shown, "Count": value, "Rate": value, "Sum": value,
                "Min": value, "Max": value, "Mean": value, "Stddev": 0.0, "Labels": labels,
            })),
            Some(&"gauge") => {
                gauges.push(json!({"Name": shown, "Value": value, "Labels": labels}));
            }
            // Sums, counts and quantiles of a distribution are named after it.
            _ => samples.push(json!({"Name": shown, "Value": value, "Labels": labels})),
        }
    }
    (gauges, counters, samples)
}

/// Splits `name{label="value",…} 1.5`.
fn sample(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (head, value) = line.rsplit_once(' ')?;
    let value: f64 = value.parse().ok()?;
    // JSON has no infinity and no NaN.
    let value = if value.is_finite() { value } else { 0.0 };
    let Some((name, labels)) = head.split_once('{') else {
        return Some((head, BTreeMap::new(), value));
    };
    let labels = labels.strip_suffix('}')?;
    let pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    let labels = pairs
        .map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect();
    Some((name, labels, value))
}

fn dotted(name: &str) -> String {
    for whole in KEPT_WHOLE {
        if let Some(beginning) = name.strip_suffix(whole) {
            return format!("{}{whole}", beginning.replace('_', "."));
        }
    }
    name.replace('_', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_becomes_the_json_form() {
        let text = "# TYPE nomad_uptime gauge\nnomad_uptime 5\n\n\
                    # TYPE nomad_client_consul_check_registrations gauge\n\
                    nomad_client_consul_check_registrations{datacenter=\"a b\",node_id=\"x\"} 2.5\n\
                    # TYPE hits counter\nhits 7\n";
        let (gauges, counters, samples) = read(text);
        assert_eq!(gauges[0], json!({"Name": "nomad.uptime", "Value": 5.0, "Labels": {}}));
        assert_eq!(gauges[1]["Name"], "nomad.client.consul.check_registrations");
        assert_eq!(gauges[1]["Labels"], json!({"datacenter": "a b", "node_id": "x"}));
        assert_eq!((counters.len(), samples.len()), (1, 0));
    }
}
