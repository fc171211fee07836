"""How often each segment is drawn: policies, where a tracker failed, and what that shows."""
