//! `--why`: each part of the cache, whether it goes or stays, and why.

use engine::{CacheItem, Judged, LayerUsers, Verdict, Why, WhyNot};

use crate::docker_units::{age, size};
use crate::listing::{align, shorten};

/// How wide a description is shown.
const DESCRIPTION: usize = 40;

/// All parts as a table: those that go first, and then the largest.
pub(super) fn table(judged: &[Judged], filters: &[String], users: &LayerUsers) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut judged: Vec<&Judged> = judged.iter().collect();
    judged.sort_by_key(|it| {
        (matches!(it.verdict, Verdict::Stays(_)), std::cmp::Reverse(it.item.bytes))
    });
    let mut rows = vec!["ID\tTYPE\tSIZE\tLAST USED\tDESCRIPTION\tVERDICT\tWHY".to_owned()];
    rows.extend(judged.iter().map(|Judged { item, verdict }| {
        let CacheItem { id, kind, description, bytes, used, .. } = item;
        let description = shorten(&description.replace(['\n', '\t'], " "), DESCRIPTION);
        let (verdict, why) = match verdict {
            Verdict::Goes(why) => ("goes", goes(*why)),
            Verdict::Stays(why) => ("stays", stays(*why, item, now, filters, users)),
        };
        let (kind, size, used) = (kind.word(), size(*bytes), age(now - used));
        format!("{id}\t{kind}\t{size}\t{used}\t{description}\t{verdict}\t{why}")
    }));
    align(&rows)
}

fn goes(why: Why) -> String {
    match why {
        Why::GivenBack => "the layer's files give it back".to_owned(),
        Why::Chosen => "it is asked for, and nothing needs it".to_owned(),
        Why::OverLimit(over) => {
            format!("used longest ago while the cache is {} over its limit", size(over))
        }
        Why::Unneeded => "nothing leads to it any more".to_owned(),
    }
}

fn stays(
    why: WhyNot,
    item: &CacheItem,
    now: i64,
    filters: &[String],
    users: &LayerUsers,
) -> String {
    match why {
        WhyNot::Cache => "the build cache stays without `--all`, a filter or a limit".to_owned(),
        WhyNot::InUse => match users.containers.get(&item.id) {
            Some(name) => format!("container `{name}` needs it"),
            None => "a build or container that runs needs it".to_owned(),
        },
        WhyNot::Shared => match users.images.get(&item.id) {
            Some(name) => format!("image `{name}` has it, too"),
            None => "an image with a name has it, too".to_owned(),
        },
        WhyNot::UsedSince(time) => {
            format!(
                "used {}, and asked for is what was not used for {}",
                age(now - item.used),
                age(now - time).trim_end_matches(" ago")
            )
        }
        WhyNot::Unfit(number) => {
            let filter = filters.get(number).map_or("", String::as_str);
            format!("it does not fit `{filter}`")
        }
        WhyNot::WithinLimit(limit) => format!("the cache may have {}", size(limit)),
    }
}
