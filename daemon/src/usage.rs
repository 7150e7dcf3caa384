//! What the store holds, and taking away from it, in BuildKit's records.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::{BuildError, CacheItem, PruneFilter, Reach, Space};
use prost_types::Timestamp;
use tonic::Status;

use crate::build::Builder;
use crate::failure;
use crate::wire::control::{DiskUsageRequest, PruneRequest, UsageRecord};

/// The parts of the cache that fit, the largest first.
pub(crate) async fn records(
    builder: &Arc<Builder>,
    request: DiskUsageRequest,
) -> Result<Vec<UsageRecord>, Status> {
    let mut filter = filter(builder, &request.filter)?;
    if let Some(age) = duration(request.age_limit) {
        filter.unused_for = Some(age);
    }
    let workspace = builder.workspace(None).await?;
    let mut items = workspace.cache_items().await.map_err(failed)?;
    let now = seconds(SystemTime::now());
    let is_old = |item: &CacheItem| {
        let unused = filter.unused_for;
        unused.is_none_or(|ago| item.used < now.saturating_sub_unsigned(ago.as_secs()))
    };
    items.retain(|item| is_old(item) && filter.matches.iter().all(|wanted| wanted.fits(item)));
    items.sort_by_key(|item| std::cmp::Reverse(item.bytes));
    Ok(items.iter().map(record).collect())
}

/// Removes what is asked for; says what that was.
pub(crate) async fn prune(
    builder: &Arc<Builder>,
    request: PruneRequest,
) -> Result<Vec<UsageRecord>, Status> {
    let limit = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    let mut filter = filter(builder, &request.filter)?;
    filter.reach = if request.all { Reach::All } else { Reach::Unshared };
    if let Some(age) = duration(request.keep_duration) {
        filter.unused_for = Some(age);
    }
    filter.space = Space {
        reserved: limit(request.reserved_space),
        max_used: limit(request.max_used_space),
        min_free: limit(request.min_free_space),
    };
    let workspace = builder.workspace(None).await?;
    let pruned = workspace.prune(filter).await.map_err(failed)?;
    Ok(pruned.items().map(record).collect())
}

/// An empty filter is none.
fn filter(builder: &Builder, filters: &[String]) -> Result<PruneFilter, Status> {
    let filters: Vec<String> = filters.iter().filter(|text| !text.is_empty()).cloned().collect();
    builder.vocabulary.filter(&filters).map_err(|error| failure::refused(&error))
}

fn failed(error: BuildError) -> Status {
    failure::status(&error)
}

fn duration(nanoseconds: i64) -> Option<Duration> {
    u64::try_from(nanoseconds).ok().filter(|n| *n > 0).map(Duration::from_nanos)
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn record(item: &CacheItem) -> UsageRecord {
    let used = Timestamp { seconds: item.used, nanos: 0 };
    UsageRecord {
        id: item.id.clone(),
        mutable: item.kind.is_mutable(),
        in_use: item.is_in_use,
        size: i64::try_from(item.bytes).unwrap_or(i64::MAX),
        // When it was made is not kept: it was there when it was last used.
        created_at: Some(used),
        last_used_at: Some(used),
        usage_count: 1,
        description: item.description.clone(),
        record_type: item.kind.word().to_owned(),
        shared: item.is_shared,
        parents: item.parents.clone(),
        ..UsageRecord::default()
    }
}
