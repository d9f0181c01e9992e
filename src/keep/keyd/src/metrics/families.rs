//! The metrics by name. METRICS.md has the same rows.

/// One metric.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// Without a histogram's `le`.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

macro_rules! families {
    ($( $id:ident, $kind:ident, $name:literal, [$($label:literal),*], $help:literal; )*) => {
        $( pub(super) const $id: Family =
            Family { name: $name, kind: stringify!($kind), labels: &[$($label),*], help: $help }; )*

        /// All of them, in the order of the page.
        #[cfg(test)]
        pub(super) const ALL: &[Family] = &[$( $id, )*];
    };
}

families! {
    BUILD, gauge, "citykeep_build_info", ["version"], "1 for the running keyd's version";
    START, gauge, "citykeep_start_time_seconds", [], "Unix time at which keyd started";
    SERVING, gauge, "citykeep_serving", [], "1 while keyd serves clients: the module is operational and does not wait for witnesses, and policy and CA bundle are the approved ones";
    STATE, gauge, "citykeep_module_state", ["state"], "1 for the state that the module had when it was last asked, at most 2 seconds ago while keyd serves";
    WITNESSES, gauge, "citykeep_witness_state", ["state"], "1 for how it stands with the witnesses, as the module said at the same time: unwitnessed, witnessed, waiting, grace";
    REQUESTS, counter, "citykeep_requests_total", ["route", "method", "code"], "Requests by route and by the answer's code: ok, or one of ERRORS.md. A batch that breaks off later was ok here";
    NOTES, counter, "citykeep_notes_total", ["category", "code"], "Notes of keyd for the log: refusals, connections, its own operation";
    VERDICTS, counter, "citykeep_verdicts_total", ["verdict"], "Verdicts on TACs, of batches and single checks";
    BATCHES, counter, "citykeep_batches_total", ["end"], "Settlement batches that began, by their end: receipt, or the code of why there was none";
    BATCH_SECONDS, histogram, "citykeep_batch_seconds", [], "Seconds from a batch's request to its receipt";
    LOG_DURABLE, gauge, "citykeep_log_durable_entries", [], "Log entries that are durable on keyd's disk";
    LOG_MADE, gauge, "citykeep_log_made_entries", [], "Log entries that the module has made";
    LOG_ACKNOWLEDGED, gauge, "citykeep_log_acknowledged_entries", [], "Log entries that the module knows as durable";
    QUEUE, gauge, "citykeep_queue_depth", ["queue"], "What waits or runs: single checks, urgent calls, bulk calls, batches, connections";
    QUEUE_LIMIT, gauge, "citykeep_queue_limit", ["queue"], "Where each queue is full and clients are answered busy";
    EXPIRY, gauge, "citykeep_certificate_expiry_seconds", ["what"], "Seconds until the first of its kind ends, 0 afterwards: keyd's certificate, a client CA, a client CRL, a client's newest certificate";
    EXPIRY_WARNINGS, gauge, "citykeep_certificate_warnings", ["what"], "How many of a kind are near their end or past it, as GET /v1/status says";
    DISK, gauge, "citykeep_disk_free_bytes", ["directory"], "Free space for keyd where the state and the log lie";
}
