//! Looking for damage in what was fetched of repositories.

use std::io;

use cache::{Damage, Mirror, Problem, Store};
use git_client::{Git, GitError, Limits, Repository};

use super::system;
use crate::blocking::blocking;
use crate::error::BuildError;

/// Reads all mirrors that nobody uses now. With `repair` a damaged one is removed: it is fetched again.
/// Where `git` is not installed nobody uses them either.
pub(crate) async fn check_mirrors(store: &Store, repair: bool) -> Result<Vec<Problem>, BuildError> {
    let Ok(git) = Git::find(Limits::default()) else { return Ok(Vec::new()) };
    let mut problems = Vec::new();
    for id in store.mirrors().map_err(system)? {
        let Some(mirror) = take(store, &id).await? else { continue };
        let Err(why) = check(&git, &mirror).await else { continue };
        let path = mirror.path().to_owned();
        let detail = format!("{id}: {why}");
        problems.push(Problem { damage: Damage::Mirror, path, detail });
        if repair {
            store.discard_mirror(mirror).map_err(system)?;
        }
    }
    Ok(problems)
}

/// A mirror, if it is there and nobody has it.
async fn take(store: &Store, id: &str) -> Result<Option<Mirror>, BuildError> {
    let (store, id) = (store.clone(), id.to_owned());
    blocking(move || {
        let gone = |_: &std::path::Path| Err(io::ErrorKind::NotFound.into());
        // One that is pruned meanwhile is not made for this.
        Ok(store.mirror(&id, &gone, &|| true).unwrap_or(None))
    })
    .await
}

async fn check(git: &Git, mirror: &Mirror) -> Result<(), GitError> {
    let lock = mirror
        .lock()
        .map_err(|source| GitError::Io { action: "lock a repository".to_owned(), source })?;
    Repository::open(git, mirror.path(), lock)?.verify().await
}
