//! What became of a job's tasks, as a user reads it: the runs that they had, and what those cost.

use anyhow::Result;
use springtide_client::Client;
use springtide_core::JobId;
use springtide_core::api::TaskView;

/// All tasks of a job, with their attempts.
pub async fn tasks(client: &Client, job: JobId) -> Result<Vec<TaskView>> {
    let mut tasks = Vec::new();
    let mut cursor = None;
    loop {
        let page = client.tasks(job, cursor.as_deref()).await?;
        tasks.extend(page.items);
        if page.next_cursor.is_none() {
            return Ok(tasks);
        }
        cursor = page.next_cursor;
    }
}

/// How many runs of a task have started, the one that won among them. Attempts that never came to a run do not count.
pub fn runs(task: &TaskView) -> usize {
    let lost = task.attempts.iter().filter(|attempt| attempt.run.is_some()).count();
    lost + usize::from(task.state == "succeeded")
}
