//! Patience with a provider that does not answer.

use std::time::Duration;

use cluster::metadata::MetadataError;

use crate::console::Console;

/// Pause between two questions to a metadata service that does not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// Asks the provider until it answers.
pub async fn insist<T, F>(console: &Console, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, MetadataError>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                console.say_once(format_args!(
                    "waiting for the provider: {}",
                    runtime::chain(&error)
                ));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
