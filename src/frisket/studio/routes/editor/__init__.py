"""What the editor asks for: pictures, frames, masks and what is proposed and seen of them."""
