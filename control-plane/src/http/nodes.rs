//! Nodes: look, drain, undrain, retire.

pub mod drain;
pub mod list;
pub mod retire;
pub mod undrain;

use std::time::Duration;

use springtide_core::NodeId;
use springtide_core::api::NodeView;
use springtide_core::node::NodeEvent;
use springtide_store::port::Fence;
use tokio::time::timeout;

use super::problem::Result;
use crate::app::App;

/// A node that can't be told in this time is told by the comparison.
const TELL: Duration = Duration::from_secs(1);

/// Changes what is wanted of a node, tells it, and shows it.
async fn change(app: &App, id: &NodeId, event: NodeEvent, fence: Option<&Fence>) -> Result<NodeView> {
    let row = app.store.change_node(id, event, fence, app.now()).await?;
    let _ = timeout(TELL, app.tell_node(&row, Vec::new())).await;
    // It may have room again, or work may have to go elsewhere.
    app.publisher.nudge();
    Ok(app.node_view(&row))
}
