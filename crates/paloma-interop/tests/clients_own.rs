//! Every scenario with paloma-client on both sides.

use paloma_interop::peer::Library::Own;

paloma_interop::scenario_tests!(Own);
